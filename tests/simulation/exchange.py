"""The carrier's place in the simulation: calls that ring, are answered or not, and are told of late or never."""

# ruff: noqa: ARG002  # the signatures are those of the classes in whose place these stand

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.chaos.model.facts import Evidence
from tests.simulation.books import Books
from tests.simulation.clock import Chances
from tests.simulation.database import Way, number_of
from tests.simulation.scenario import Carrier as Manners

from callfleet_core.carriers import CarrierAccount
from callfleet_operator.carrier import Carrier
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall
from callfleet_operator.carriers import Carriers
from callfleet_operator.objects import Campaign

Begin = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class OutageError(OSError):
    """The carrier does not answer."""


@dataclass
class Call:
    """A call at the carrier."""

    sid: str
    attempt: UUID
    person: int
    created: datetime
    ring_timeout_s: int
    time_limit_s: int
    status: str = "queued"
    answered: datetime | None = None
    ended: datetime | None = None
    duration_s: int | None = None
    # From when on its duration can be read.
    known_from: datetime | None = None
    task: asyncio.Task[None] | None = None
    # Picked up or over; over.
    told: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Exchange:
    """All calls of a day, and who is told of them."""

    def __init__(self, books: Books, manners: Manners, chances: Chances, begin: Begin) -> None:
        self._books, self._manners, self._begin = books, manners, begin
        self._dice, self._late = chances.of("carrier"), chances.of("callbacks")
        self.calls: dict[str, Call] = {}
        self.is_away = False
        # Told before the books are: somebody's phone rings, from when to when.
        self.on_ring: Callable[[Call], None] = lambda _: None

    def place(self, attempt: UUID) -> str | None:
        """Takes a call and answers its SID; None: it is refused. Raises OutageError, upon which nobody knows."""
        manners, now = self._manners, self._books.now
        if self.is_away:
            raise OutageError
        if self._dice.random() < manners.refused:
            return None
        lost = self._dice.random() < manners.unanswered
        if lost and self._dice.random() < 0.5:
            raise OutageError  # it never arrived
        request = self._books.beside[attempt].request
        call = Call(
            f"CA{len(self.calls):032d}", attempt, self._books.attempts[attempt].item.place.person, now,
            request.ring_timeout_s, request.time_limit_s,
        )  # fmt: skip
        self.calls[call.sid] = call
        call.task = self._begin(self._run(call))
        if lost:
            raise OutageError  # the call is there, and its SID is not known
        return call.sid

    async def _run(self, call: Call) -> None:
        dice, manners = self._dice, self._manners
        chance, rings_s = dice.random(), dice.uniform(2, 14)
        talks_s = min(call.time_limit_s, max(1, round(dice.expovariate(2 / manners.longest_s))))
        await asyncio.sleep(dice.uniform(0.2, 4))
        call.status = "ringing"
        self.on_ring(call)
        if chance < manners.answered:
            await asyncio.sleep(min(rings_s, call.ring_timeout_s - 1))
            call.status, call.answered = "in-progress", self._books.now
            call.told.set()
            self._books.record_placed(call.attempt, call.sid)
            self._books.record_answered(call.attempt, call.sid)
            await asyncio.sleep(talks_s)
            self._end(call, "completed")
        elif chance < manners.answered + manners.busy:
            await asyncio.sleep(1.5)
            self._end(call, "busy")
        elif chance < manners.answered + manners.busy + manners.failed:
            self._end(call, "failed")
        else:
            await asyncio.sleep(call.ring_timeout_s)
            self._end(call, "no-answer")

    def hang_up(self, call: Call) -> None:
        """Ends a call, whatever it is doing."""
        if call.ended is None:
            if call.task is not None and call.task is not asyncio.current_task():
                call.task.cancel()
            self._end(call, "completed" if call.answered else "canceled")

    def _end(self, call: Call, status: str) -> None:
        now, late = self._books.now, self._late
        call.status, call.ended = status, now
        call.told.set()
        call.over.set()
        talked = now - call.answered if call.answered else timedelta()
        call.duration_s = min(call.time_limit_s, -(-int(talked / timedelta(milliseconds=1)) // 1_000))
        slow = late.random() < self._manners.late_durations
        call.known_from = now + timedelta(seconds=late.uniform(60, 900)) if slow else now
        chance, lost = late.random(), self._manners.lost_callbacks
        delay_s = late.uniform(0.1, 1.5)
        if chance < lost + self._manners.late_callbacks:
            delay_s = late.uniform(5, 900)
        if chance >= lost:
            self._begin(self._call_back(call, delay_s))

    async def _call_back(self, call: Call, delay_s: float) -> None:
        """The carrier's final word to the gateway."""
        await asyncio.sleep(delay_s)
        self._books.record_placed(call.attempt, call.sid)
        self._books.record_ended(call.attempt, self.evidence(call))

    def evidence(self, call: Call) -> Evidence:
        """What is known of how a call ended."""
        return Evidence(call.status, call.sid, self._duration(call))

    def _duration(self, call: Call) -> int | None:
        return call.duration_s if call.known_from is not None and self._books.now >= call.known_from else None

    def view(self, call: Call) -> CarrierCall:
        """As its REST API tells it."""
        duration_s = self._duration(call) if call.status in FINAL_STATUSES else None
        return CarrierCall(call.sid, call.status, duration_s, call.created, call.ended)


class MemoryCarrier(Carrier):
    """The operator's client of the carrier."""

    def __init__(self, exchange: Exchange, way: Way) -> None:
        self._exchange, self._way = exchange, way

    async def fetch(self, sid: str) -> CarrierCall | None:
        await self._reach()
        call = self._exchange.calls.get(sid)
        return None if call is None else self._exchange.view(call)

    async def find(self, *, to: str, from_: str, since: datetime) -> list[CarrierCall]:
        await self._reach()
        calls = self._exchange.calls.values()
        return [self._exchange.view(each) for each in calls if number_of(each.person) == to and each.created >= since]

    async def end(self, sid: str) -> CarrierCall | None:
        await self._reach()
        call = self._exchange.calls.get(sid)
        if call is None:
            return None
        self._exchange.hang_up(call)
        return self._exchange.view(call)

    async def _reach(self) -> None:
        await self._way.go()
        if self._exchange.is_away:
            raise OutageError


class MemoryCarriers(Carriers):
    """One account, in force from the beginning."""

    def __init__(self, account: CarrierAccount, client: Carrier) -> None:
        self._account, self._caller = account, client

    async def start(self) -> None:
        pass

    def of(self, campaign: Campaign) -> CarrierAccount | str | None:
        return self._account

    async def client(self, account_sid: str) -> Carrier:
        return self._caller
