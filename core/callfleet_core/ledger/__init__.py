"""The ledger: what may be spent, what is held and spent, and the right to dial that a hold grants."""

from callfleet_core.ledger.fencing import assert_epoch
from callfleet_core.ledger.records import (
    GRANT_EXPIRES_AFTER_S,
    OPEN_STATES,
    Attempt,
    Balance,
    HoldAnswer,
    HoldRequest,
    HoldResult,
    LimitResult,
    Numbers,
    OpenAttempt,
    Settlement,
    account_key,
)
from callfleet_core.ledger.store import MAX_ATTEMPTS_A_CYCLE, OVERSPENT_HOLDS, Ledger

__all__ = [
    "GRANT_EXPIRES_AFTER_S",
    "MAX_ATTEMPTS_A_CYCLE",
    "OPEN_STATES",
    "OVERSPENT_HOLDS",
    "Attempt",
    "Balance",
    "HoldAnswer",
    "HoldRequest",
    "HoldResult",
    "Ledger",
    "LimitResult",
    "Numbers",
    "OpenAttempt",
    "Settlement",
    "account_key",
    "assert_epoch",
]
