"""The carrier's bill against the ledger: which days are due, what the books have, what differed, what was corrected.

A day is a day in UTC of one carrier account. Amounts are integer micros. The operator's writes carry its epoch; what an
auditor asks for and reads needs the role callfleet_auditor only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.audit import word
from callfleet_core.ledger.fencing import fenced

# Calls may still be live, and prices come later, just after a day's end.
EARLIEST_AFTER = timedelta(hours=1)
# Days that were missed, by an operator that was down, are made up for.
DAYS_BACK = 7
MAX_DUE = 20
MAX_LISTED = 1_000
# Dials of a day that nobody knows of, searched once more; each costs the carrier a request.
MAX_SEARCHED = 200


class DifferenceKind(StrEnum):
    """In what the carrier's list and the ledger differ."""

    UNKNOWN_CALL = "UnknownCall"
    MISSING_CALL = "MissingCall"
    STATUS = "Status"
    DURATION = "Duration"
    PRICE = "Price"
    UNPRICED = "Unpriced"
    CURRENCY = "Currency"
    LOST = "Lost"


@dataclass(frozen=True)
class CarrierDay:
    """A day (in UTC) of a carrier account."""

    account_sid: str
    day: date

    @property
    def start(self) -> datetime:
        """Its first instant."""
        return datetime.combine(self.day, time(), UTC)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return self.start + timedelta(days=1)


@dataclass(frozen=True)
class BookedCall:
    """A call as the ledger has it; `voice_micros` is the carrier's minutes, corrections included."""

    id: UUID
    namespace: str
    campaign: str
    session_name: str
    state: str
    reason: str | None
    end_status: str | None
    duration_s: int | None
    call_sid: str
    currency: str
    voice_micros: int


@dataclass(frozen=True)
class Difference:
    """Something in which a call differs; `delta_micros` is what was posted for it, None where nothing was."""

    kind: DifferenceKind
    call_sid: str
    attempt_id: UUID | None = None
    expected: str = ""
    found: str = ""
    delta_micros: int | None = None


@dataclass(frozen=True)
class Noted:
    """A difference as it is kept; the session and its currency where an attempt is known."""

    day: date
    account_sid: str
    kind: DifferenceKind
    call_sid: str
    attempt_id: UUID | None
    namespace: str | None
    session_name: str | None
    currency: str | None
    expected: str
    found: str
    delta_micros: int | None
    found_at: datetime


@dataclass(frozen=True)
class Progress:
    """How far a day of an account is."""

    account_sid: str
    day: date
    requested_at: datetime
    done_at: datetime | None
    next_at: datetime | None
    calls: int
    open_calls: int
    problem: str | None

    @property
    def is_answered(self) -> bool:
        """True once the operator has done what was asked last, or said why it cannot."""
        return self.problem is not None or (self.done_at is not None and self.done_at >= self.requested_at)


class Reconciliations:
    """The operator's side: what is due, what the books have, what was found."""

    def __init__(self, engine: AsyncEngine, epoch: Callable[[], int]) -> None:
        self._engine = engine
        self._epoch = epoch

    async def due(self, now: datetime) -> list[CarrierDay]:
        """Days to look at now: asked for, to be looked at again, or never looked at; the oldest first.

        An account is in use while it has placed a call in the week until then.
        """
        last = (now - EARLIEST_AFTER).astimezone(UTC).date() - timedelta(days=1)
        first = last - timedelta(days=DAYS_BACK - 1)
        parameters = {"now": now, "first": first, "last": last, "limit": MAX_DUE}
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_DUE), parameters)
            return [CarrierDay(row.account_sid, row.day) for row in rows]

    async def booked(self, sids: Collection[str]) -> dict[str, BookedCall]:
        """The calls of these SIDs that are some attempt's, by SID."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_BOOKED), {"sids": list(sids)})
            return {row["call_sid"]: BookedCall(**row) for row in rows.mappings()}

    async def placed_sids(self, day: CarrierDay) -> set[str]:
        """SIDs of the calls that were begun on the day."""
        where = {"account": day.account_sid, "start": day.start, "end": day.end}
        async with self._engine.connect() as connection:
            return set((await connection.execute(text(_PLACED), where)).scalars())

    async def unresolved(self, day: CarrierDay) -> list[tuple[UUID, datetime]]:
        """Attempts of the day whose call nobody knows, and when they were begun; at most MAX_SEARCHED."""
        where = {"account": day.account_sid, "start": day.start, "end": day.end, "limit": MAX_SEARCHED}
        async with self._engine.connect() as connection:
            return [(row.id, row.begun_at) for row in await connection.execute(text(_UNRESOLVED), where)]

    async def correct(self, attempt_id: UUID, day: CarrierDay, price_micros: int) -> int | None:
        """Posts the carrier's price of a settled call where the ledger has another; the difference, else None."""
        async with fenced(self._engine, self._epoch) as connection:
            answer = await connection.execute(
                text("SELECT ledger_correct(:epoch, :attempt, :day, :price)"),
                {"epoch": self._epoch(), "attempt": attempt_id, "day": day.day, "price": price_micros},
            )
            delta: int | None = answer.scalar_one().get("delta_micros")
            return delta

    async def note(self, day: CarrierDay, found: Sequence[Difference]) -> list[Difference]:
        """Keeps differences; answers those that were not known yet."""
        async with fenced(self._engine, self._epoch) as connection:
            return [item for item in found if await _is_new(connection, day, item)]

    async def finish(self, day: CarrierDay, *, calls: int, open_calls: int, next_at: datetime | None) -> None:
        """The day was compared; `next_at` says when it is looked at again, None that it is done for good."""
        await self._progress(day, _FINISH, calls=calls, open=open_calls, next=next_at)

    async def fail(self, day: CarrierDay, problem: str, next_at: datetime | None) -> None:
        """The day could not be compared."""
        await self._progress(day, _FAIL, problem=problem, next=next_at)

    async def failing(self) -> int:
        """How many days could not be compared."""
        async with self._engine.connect() as connection:
            count = "SELECT count(*) FROM carrier_reconciliations WHERE problem IS NOT NULL"
            return int((await connection.execute(text(count))).scalar_one())

    async def _progress(self, day: CarrierDay, statement: str, **values: Any) -> None:
        parameters = {"account": day.account_sid, "day": day.day, **values}
        async with fenced(self._engine, self._epoch) as connection:
            await connection.execute(text(statement), parameters)


class ReconciliationDesk:
    """The auditor's side: asks for a day, and reads what was found."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def request(self, day: date, actor: str, reason: str) -> int:
        """Asks the operator to compare a day now; how many carrier accounts that concerns. Audited.

        Raises WordMissingError.
        """
        who, why = word(actor, reason)
        async with self._engine.begin() as connection:
            answer = await connection.execute(
                text("SELECT reconciliation_request(:day, :actor, :reason)"),
                {"day": day, "actor": who, "reason": why},
            )
            return int(answer.scalar_one())

    async def progress(self, day: date) -> list[Progress]:
        """How far the accounts of a day are."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_PROGRESS), {"day": day})
            return [Progress(**row) for row in rows.mappings()]

    async def differences(
        self, *, day: date | None = None, kind: DifferenceKind | None = None, limit: int = MAX_LISTED
    ) -> list[Noted]:
        """What was found, the newest first; of all days unless one is given."""
        parameters = {"day": day, "kind": kind, "limit": min(limit, MAX_LISTED)}
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(_DIFFERENCES), parameters)
            return [Noted(**{**row, "kind": DifferenceKind(row["kind"])}) for row in rows.mappings()]


async def _is_new(connection: AsyncConnection, day: CarrierDay, item: Difference) -> bool:
    parameters = {
        "account": day.account_sid, "day": day.day, "kind": item.kind, "sid": item.call_sid,
        "attempt": item.attempt_id, "expected": item.expected, "found": item.found,
    }  # fmt: skip
    return (await connection.execute(text(_NOTE), parameters)).scalar_one_or_none() is not None


_DUE = """
SELECT account_sid, day FROM carrier_reconciliations WHERE next_at <= :now
UNION
SELECT k.account_sid, d.day FROM carrier_accounts k
CROSS JOIN (SELECT CAST(g AS date) AS day
            FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') g) d
WHERE NOT EXISTS (SELECT 1 FROM carrier_reconciliations r WHERE r.account_sid = k.account_sid AND r.day = d.day)
  AND EXISTS (SELECT 1 FROM dial_attempts a WHERE a.account_sid = k.account_sid
              AND a.begun_at >= CAST(d.day - 6 AS timestamp) AT TIME ZONE 'UTC'
              AND a.begun_at < CAST(d.day + 1 AS timestamp) AT TIME ZONE 'UTC')
ORDER BY day, account_sid LIMIT :limit
"""
_BOOKED = """
SELECT a.id, a.namespace, a.campaign, a.session_name, a.state, a.reason, a.end_status, a.duration_s, a.call_sid,
       a.currency, (SELECT CAST(COALESCE(sum(l.amount_micros), 0) AS bigint) FROM cost_lines l WHERE l.attempt_id = a.id
        AND l.meter IN ('carrier_voice_minutes', 'carrier_voice_correction')) AS voice_micros
FROM dial_attempts a WHERE a.call_sid = ANY(:sids)
"""
_PLACED = """
SELECT call_sid FROM dial_attempts
WHERE account_sid = :account AND begun_at >= :start AND begun_at < :end AND call_sid IS NOT NULL
"""
_UNRESOLVED = """
SELECT id, begun_at FROM dial_attempts
WHERE end_status = 'unresolved' AND begun_at >= :start AND begun_at < :end AND account_sid = :account
  AND call_sid IS NULL ORDER BY begun_at LIMIT :limit
"""
_NOTE = """
INSERT INTO carrier_differences (account_sid, day, kind, call_sid, attempt_id, expected, found)
VALUES (:account, :day, :kind, :sid, :attempt, :expected, :found)
ON CONFLICT (call_sid, kind, expected, found, correction) DO NOTHING RETURNING id
"""
_FINISH = """
INSERT INTO carrier_reconciliations AS r (account_sid, day, requested_at, done_at, next_at, calls, open_calls)
VALUES (:account, :day, clock_timestamp(), clock_timestamp(), :next, :calls, :open)
ON CONFLICT (account_sid, day) DO UPDATE SET done_at = clock_timestamp(), next_at = EXCLUDED.next_at,
    calls = EXCLUDED.calls, open_calls = EXCLUDED.open_calls, problem = NULL
"""
_FAIL = """
INSERT INTO carrier_reconciliations AS r (account_sid, day, requested_at, next_at, problem)
VALUES (:account, :day, clock_timestamp(), :next, :problem)
ON CONFLICT (account_sid, day) DO UPDATE SET next_at = EXCLUDED.next_at, problem = EXCLUDED.problem
"""
_PROGRESS = """
SELECT account_sid, day, requested_at, done_at, next_at, calls, open_calls, problem
FROM carrier_reconciliations WHERE day = :day ORDER BY account_sid
"""
_DIFFERENCES = """
SELECT d.day, d.account_sid, d.kind, d.call_sid, d.attempt_id, a.namespace, a.session_name, a.currency, d.expected,
       d.found, d.delta_micros, d.found_at
FROM carrier_differences d LEFT JOIN attempts_overview a ON a.id = d.attempt_id
WHERE (CAST(:day AS date) IS NULL OR d.day = :day) AND (CAST(:kind AS text) IS NULL OR d.kind = :kind)
ORDER BY d.id DESC LIMIT :limit
"""
