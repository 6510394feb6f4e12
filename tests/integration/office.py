"""An operator's books and its carrier's, with yesterday in both: the real SDK over HTTP, PostgreSQL, an API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import ACCOUNT_SID, Books, billed, number, open_books
from tests.integration.operator_parts import CARRIER_TOKEN, Operator, operator

from callfleet_core.reconciliation import CarrierDay, Noted, ReconciliationDesk
from callfleet_operator.reconcile import bill
from callfleet_simulator.calls import Call, CallRequest, CallStatus, new_sid
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import running

FROM = "+15550100001"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
NOON = datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 12, tzinfo=UTC)
# Whenever the tests run, the day is over for so long.
AFTER = CarrierDay(ACCOUNT_SID, YESTERDAY).end + timedelta(hours=2)
VOICE = 14_000  # micros a started minute, in both price lists


@dataclass
class Office:
    """An operator's books, the carrier's, and yesterday in both."""

    books: Books
    operator: Operator
    carrier: Carrier
    database_url: str

    async def call(self, index: int, duration_s: int = 70, **changes: Any) -> tuple[UUID, Call]:
        """A call of yesterday, settled in our books, and the carrier's record of it, priced alike unless changed."""
        attempt = await self.books.held(index)
        call = self.listed(index, duration_s, **changes)
        await self.books.dialed(attempt, call.sid)
        await self.books.ended(attempt, "completed", duration_s)
        await self.books.ledger.settle(attempt, billed(duration_s))
        return await self.was_yesterday(attempt), call

    def listed(self, index: int, duration_s: int = 70, **changes: Any) -> Call:
        """A call as the carrier has it."""
        values: dict[str, Any] = {
            "status": CallStatus.COMPLETED,
            "date_created": NOON,
            "start_time": NOON,
            "end_time": NOON + timedelta(seconds=duration_s),
            "duration_s": duration_s,
            "answered": True,
            "price_micros": -(-duration_s // 60) * VOICE,
            **changes,
        }
        call = Call(new_sid("CA"), ACCOUNT_SID, CallRequest(number(index), FROM), **values)
        self.carrier.calls.add(call)
        return call

    async def was_yesterday(self, attempt: UUID) -> UUID:
        """Moves a dial to yesterday's noon."""
        await self.books.sql("UPDATE dial_attempts SET begun_at = :noon WHERE id = :id", noon=NOON, id=attempt)
        return attempt

    async def compare(self, now: datetime = AFTER) -> list[tuple[str, str, str, str, int | None]]:
        """One look of the operator's; what was found until then, the oldest first."""
        self.operator.context.now = lambda: now
        await bill.reconcile(self.operator.context)
        return [
            (item.kind.value, item.call_sid, item.expected, item.found, item.delta_micros)
            for item in reversed(await self.differences())
        ]

    async def differences(self) -> list[Noted]:
        """What was found, the newest first."""
        return await ReconciliationDesk(self.books.engine).differences()

    async def progress(self) -> tuple[int, int, datetime | None, str | None]:
        """(calls, open calls, next look, problem) of yesterday."""
        (row,) = await ReconciliationDesk(self.books.engine).progress(YESTERDAY)
        return row.calls, row.open_calls, row.next_at, row.problem


@asynccontextmanager
async def open_office(engine: AsyncEngine, database_url: str, server: ApiServer) -> AsyncIterator[Office]:
    """An operator that leads, with a budget of 1 USD; nothing runs by itself but the carrier."""
    carrier = Carrier(
        CarrierConfig(ACCOUNT_SID, CARRIER_TOKEN), People(people={number(0): Person(name="Nobody", ring_s=0.1)})
    )
    carrier.prices = replace(carrier.prices, voice_micros_per_min=20_000)  # dearer than our list
    books = await open_books(engine, limit_micros=1_000_000)
    async with running(carrier) as simulator, operator(engine, server, simulator.url) as parts:
        await books.ledger.take_epoch()
        parts.context.ledger = books.ledger
        await books.sql("UPDATE carrier_accounts SET calls_per_second = 1000")
        yield Office(books, parts, carrier, database_url)
