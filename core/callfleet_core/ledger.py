"""The operator's side of the ledger: epochs, limits, holds, revocations and settlements.

Amounts are integer micros. Every write carries the leader's epoch; an older one raises StaleEpochError.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.errors import StaleEpochError
from callfleet_core.pricing import CostLine
from callfleet_core.windows import TOTAL, Window

GRANT_EXPIRES_AFTER_S = 120
_STALE_EPOCH_SQLSTATE = "CF001"
# More unsettled attempts than this are walked in the next cycle; one cycle stays bounded.
MAX_ATTEMPTS_A_CYCLE = 1_000


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
    WINDOW_CLOSED = "WindowClosed"


class LimitResult(StrEnum):
    """What became of a limit: in force, older than the one in force, or in another currency than the account."""

    APPLIED = "Applied"
    STALE = "Stale"
    CURRENCY_MISMATCH = "CurrencyMismatch"


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


def account_key(namespace: str, kind: str, name: str, window: Window = TOTAL) -> str:
    """An account's identity: not a UID, so that delete and re-apply keeps what was spent."""
    return f"{namespace}/{kind}/{name}/{window.key}"


_ATTEMPT_COLUMNS = ", ".join(
    f"a.{name}"
    for name in Attempt.__dataclass_fields__
    if name not in {"disposition", "uncovered", "tries", "not_placed"}
)
# An account that holds for the attempt was closed, or its window has ended.
_UNCOVERED = (
    "EXISTS (SELECT 1 FROM holds h JOIN accounts k ON k.id = h.account_id"
    " WHERE h.attempt_id = a.id AND (k.closed OR NOT window_is_open(k)))"
)
_EARLIER = (
    "(SELECT count(*) FROM dial_attempts b WHERE b.namespace = a.namespace AND b.session_name = a.session_name"
    " AND b.run_id = a.run_id AND b.contact_id = a.contact_id AND b.state <> 'revoked' AND b.number <= a.number"
    " AND {})"
)
_BALANCE_COLUMNS = ", ".join(Balance.__dataclass_fields__)


class Ledger:
    """The books, for the one operator that leads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch under which this operator writes; 0 before take_epoch."""
        return self._epoch

    async def take_epoch(self) -> int:
        """Becomes the leader in the books: every write of an earlier epoch is refused from now on."""
        self._epoch = int(await self._write("ledger_take_epoch()"))
        return self._epoch

    async def set_limit(
        self,
        *,
        namespace: str,
        kind: str,
        name: str,
        window: Window,
        currency: str,
        limit_micros: int | None,
        suspended: bool,
        uid: str,
        generation: int,
    ) -> LimitResult:
        """Puts an object's limit in force, unless a newer one is."""
        answer = await self._write(
            "ledger_set_limit(:epoch, :namespace, :kind, :name, :window, :start, :end, :currency,"
            " CAST(:limit AS bigint), :suspended, :uid, :generation)",
            epoch=self._epoch,
            namespace=namespace,
            kind=kind,
            name=name,
            window=window.key,
            start=window.start,
            end=window.end,
            currency=currency,
            limit=limit_micros,
            suspended=suspended,
            uid=uid,
            generation=generation,
        )
        return LimitResult(answer)

    async def close_account(self, *, namespace: str, kind: str, name: str) -> None:
        """Closes a deleted object's accounts: no new holds; what is open settles into them."""
        await self._write(
            "ledger_close_account(:epoch, :namespace, :kind, :name)",
            epoch=self._epoch,
            namespace=namespace,
            kind=kind,
            name=name,
        )

    async def hold(self, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        """Holds a batch in the order given, in one transaction, each item whole or not at all."""
        if not requests:
            return []
        batch = json.dumps([asdict(request) for request in requests], default=str)
        answers = await self._write("ledger_hold(:epoch, CAST(:batch AS jsonb))", epoch=self._epoch, batch=batch)
        return [_hold_answer(answer) for answer in answers]

    async def revoke(self, attempt_id: UUID, reason: str) -> str:
        """Takes a grant back and returns its money; answers the state met when it was no longer granted."""
        return str(
            await self._write(
                "ledger_revoke(:epoch, :attempt, :reason)", epoch=self._epoch, attempt=attempt_id, reason=reason
            )
        )

    async def settle(self, attempt_id: UUID, lines: Sequence[CostLine]) -> str:
        """Posts an ended attempt's actual cost, once; answers the attempt's state."""
        return str(
            await self._write(
                "ledger_settle(:epoch, :attempt, CAST(:lines AS jsonb))",
                epoch=self._epoch,
                attempt=attempt_id,
                lines=json.dumps([asdict(line) for line in lines], default=str),
            )
        )

    async def balances(self) -> list[Balance]:
        """Every account."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text(f"SELECT {_BALANCE_COLUMNS} FROM accounts ORDER BY id")  # noqa: S608  # names of our own
            )
            return [Balance(**row) for row in rows.mappings()]

    async def balance(self, key: str) -> Balance | None:
        """One account, or None."""
        query = f"SELECT {_BALANCE_COLUMNS} FROM accounts WHERE key = :key"  # noqa: S608  # names of our own
        async with self._engine.connect() as connection:
            row = (await connection.execute(text(query), {"key": key})).mappings().one_or_none()
            return None if row is None else Balance(**row)

    async def unsettled_attempts(self) -> list[Attempt]:
        """Attempts that are granted, dialing, placed or ended, and settled ones with late evidence, oldest first."""
        return await self._attempts(
            "a.state NOT IN ('revoked', 'settled') OR (a.state = 'settled' AND a.reason = 'LateEvidence')"
        )

    async def latest_attempts(self, namespace: str, session_names: Sequence[str]) -> dict[str, Attempt]:
        """The newest attempt that was not revoked, by session name."""
        rows = await self._attempts(
            "a.namespace = :namespace AND a.session_name = ANY(:names) AND a.state <> 'revoked'",
            namespace=namespace,
            names=list(session_names),
        )
        return {attempt.session_name: attempt for attempt in sorted(rows, key=lambda attempt: attempt.number)}

    async def known_sids(self, sids: Sequence[str]) -> set[str]:
        """Those of the carrier's calls that are some attempt's."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT call_sid FROM dial_attempts WHERE call_sid = ANY(:sids)"), {"sids": list(sids)}
            )
            return set(rows.scalars())

    async def request_cancel(self, attempt_id: UUID) -> None:
        """Mirrors a cancellation, before anything acts on it."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE dial_attempts SET cancel_requested_at = COALESCE(cancel_requested_at, clock_timestamp())"
                    " WHERE id = :attempt"
                ),
                {"attempt": attempt_id},
            )

    async def note_lookup(self, attempt_id: UUID, *, empty: bool) -> None:
        """Remembers that the carrier's list was searched for an attempt's call."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE dial_attempts SET last_lookup_at = clock_timestamp(),"
                    " lookups_empty = lookups_empty + :empty WHERE id = :attempt"
                ),
                {"attempt": attempt_id, "empty": int(empty)},
            )

    async def overspent_accounts(self) -> list[str]:
        """Keys of accounts in which a hold was ever made above the limit then in force, replayed from the entries.

        The definition is docs/architecture.md's: a hold made while spent + held + hold exceeded that row's limit.
        """
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_OVERSPENT))
            return [str(row.key) for row in rows]

    async def _attempts(self, where: str, **parameters: Any) -> list[Attempt]:
        query = (
            f"SELECT {_ATTEMPT_COLUMNS}, c.disposition, {_UNCOVERED} AS uncovered,"  # noqa: S608  # names of our own
            f" {_EARLIER.format('b.counts')} AS tries, {_EARLIER.format('NOT b.counts')} AS not_placed"
            " FROM dial_attempts a LEFT JOIN calls c ON c.id = a.id"
            f" WHERE {where} ORDER BY a.granted_at, a.id LIMIT {MAX_ATTEMPTS_A_CYCLE}"
        )
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(query), parameters)
            return [Attempt(**row) for row in rows.mappings()]

    async def _write(self, call: str, **parameters: Any) -> Any:
        try:
            async with self._engine.begin() as connection:
                return (await connection.execute(text(f"SELECT {call}"), parameters)).scalar_one()
        except DBAPIError as error:
            raise _named(error) from None


async def assert_epoch(connection: AsyncConnection, epoch: int) -> None:
    """Fences a transaction of the operator's. Raises StaleEpochError when another one leads."""
    try:
        await connection.execute(text("SELECT ledger_assert_epoch(:epoch)"), {"epoch": epoch})
    except DBAPIError as error:
        raise _named(error) from None


def _named(error: DBAPIError) -> Exception:
    if getattr(error.orig, "sqlstate", None) == _STALE_EPOCH_SQLSTATE:
        return StaleEpochError("another operator leads: this one must take a new epoch before it writes")
    return error


def _hold_answer(answer: dict[str, Any]) -> HoldAnswer:
    expires_at = answer.get("expires_at")
    return HoldAnswer(
        attempt_id=UUID(answer["attempt_id"]),
        result=HoldResult(answer["result"]),
        account=answer.get("account"),
        shortfall_micros=answer.get("shortfall_micros"),
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
    )


# A hold made while spent + held + hold exceeded the limit in force then (docs/architecture.md), replayed.
OVERSPENT_HOLDS: Final = """
SELECT account_id FROM (
    SELECT account_id, kind, limit_micros,
           sum(held_micros + spent_micros) OVER (PARTITION BY account_id ORDER BY id) AS balance
    FROM ledger_entries
) e WHERE kind = 'hold' AND limit_micros IS NOT NULL AND balance > limit_micros
"""
_OVERSPENT = f"SELECT DISTINCT a.key FROM ({OVERSPENT_HOLDS}) o JOIN accounts a ON a.id = o.account_id"  # noqa: S608  # ours
