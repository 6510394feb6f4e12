"""What the ledger is asked and what it answers: requests to hold, balances, attempts. Amounts are integer micros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from callfleet_core.pricing import CostLine
from callfleet_core.windows import TOTAL, Window

GRANT_EXPIRES_AFTER_S = 120
# The states of an attempt that may still be dialled or is being talked on (docs/architecture.md).
OPEN_STATES = frozenset({"granted", "dialing", "placed"})


class HoldResult(StrEnum):
    """What became of a request to hold: Held, or why not, in the words of a session's reason."""

    HELD = "Held"
    CLOSED = "Closed"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    BUDGET_HELD = "BudgetHeld"
    BUDGET_NOT_FOUND = "BudgetNotFound"
    CURRENCY_MISMATCH = "CurrencyMismatch"
    NUMBER_BUSY = "NumberBusy"
    DO_NOT_CALL = "DoNotCall"
    NO_CONSENT = "NoConsent"
    SUSPENDED = "Suspended"
    STOPPED = "Stopped"
    OUTSIDE_CALLING_HOURS = "OutsideCallingHours"
    WINDOW_CLOSED = "WindowClosed"


class LimitResult(StrEnum):
    """What became of a limit: in force, or older than the one in force; in another currency than the account, or for a
    day or month that overlaps one of another time zone: then nothing was changed.
    """

    APPLIED = "Applied"
    STALE = "Stale"
    CURRENCY_MISMATCH = "CurrencyMismatch"
    TIME_ZONE_MISMATCH = "TimeZoneMismatch"


@dataclass(frozen=True)
class HoldRequest:
    """One attempt asked for: its worst case is held in every account of `accounts`, or in none."""

    attempt_id: UUID
    number: int
    namespace: str
    campaign: str
    run_id: str
    contact_id: UUID
    session_name: str
    session_uid: str
    pod_uid: str
    amount_micros: int
    currency: str
    accounts: tuple[str, ...]
    time_limit_s: int
    ring_timeout_s: int
    max_queue_s: int
    account_sid: str
    from_number: str
    time_zone: str
    script: dict[str, Any]
    max_attempts: int = 1
    # What each meter may run at most, as the worst case says it; () leaves the meters without caps.
    caps: tuple[CostLine, ...] = ()
    expires_after_s: int = GRANT_EXPIRES_AFTER_S


@dataclass(frozen=True)
class HoldAnswer:
    """The ledger's answer; `shortfall_micros` is the money missing in `account`."""

    attempt_id: UUID
    result: HoldResult
    account: str | None = None
    shortfall_micros: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Settlement:
    """What an ended attempt cost, for the end that it was priced for; None prices whichever end it has."""

    attempt_id: UUID
    lines: Sequence[CostLine]
    seen: str | None = None


@dataclass(frozen=True)
class Balance:
    """An account's balances in micros; no limit means that it only counts."""

    key: str
    namespace: str
    kind: str
    name: str
    time_window: str
    window_start: datetime | None
    window_end: datetime | None
    currency: str
    limit_micros: int | None
    held_micros: int
    spent_micros: int
    closed: bool
    suspended: bool
    overrun: bool
    # The meters that ran above their caps; none: an overrun was above its hold.
    overrun_meters: list[str]
    limit_uid: str
    limit_generation: int


@dataclass(frozen=True)
class Attempt:
    """An attempt as the operator's watchdogs and settlements see it; it names no person."""

    id: UUID
    state: str
    number: int
    namespace: str
    campaign: str
    run_id: str
    contact_id: UUID
    session_name: str
    session_uid: str
    account_sid: str
    currency: str
    hold_micros: int
    time_limit_s: int
    ring_timeout_s: int
    max_queue_s: int
    granted_pod_uid: str
    granted_at: datetime
    expires_at: datetime
    begun_at: datetime | None
    placed_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    cancel_requested_at: datetime | None
    call_sid: str | None
    reason: str | None
    end_status: str | None
    duration_s: int | None
    actual_micros: int | None
    lookups_empty: int
    last_lookup_at: datetime | None
    disposition: str | None
    uncovered: bool
    counts: bool
    # Attempts of the session so far that count, and those that never reached the carrier and do not.
    tries: int
    not_placed: int
    # A grant that has expired by PostgreSQL's clock, or was made by one that has gone back since.
    over: bool = False


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that is not settled, as far as it takes a place: in its campaign, at its account, in its pod."""

    state: str
    namespace: str
    campaign: str
    session_name: str
    account_sid: str
    granted_pod_uid: str


@dataclass(frozen=True)
class Numbers:
    """Whom an attempt dials, and from which number; E.164."""

    to: str
    from_: str


def account_key(namespace: str, kind: str, name: str, window: Window = TOTAL) -> str:
    """An account's identity: not a UID, so that delete and re-apply keeps what was spent."""
    return f"{namespace}/{kind}/{name}/{window.key}"
