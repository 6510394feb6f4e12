"""A carrier in memory: it counts what is dialled, lets calls ring, be answered and end, and can be asked about them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from callfleet_core.carriers import CarrierAccount
from callfleet_core.dialing import DialOrder
from callfleet_operator.carrier import Carrier
from callfleet_operator.carriercall import CarrierCall

RING_S = 2.0
ROUND_TRIP_S = 0.05

Callback = Callable[[UUID, CarrierCall], Coroutine[Any, Any, None]]


@dataclass
class PretendCarrier:
    """Everybody answers after RING_S and talks for `talk_s`, unless the call is ended before."""

    clock: Callable[[], datetime]
    on_answered: Callback
    on_ended: Callback
    talk_s: float
    # How often each contact was dialled.
    dials: Counter[UUID] = field(default_factory=Counter)
    calls: dict[str, CarrierCall] = field(default_factory=dict)
    _answered_at: dict[str, datetime] = field(default_factory=dict)
    _attempts: dict[str, UUID] = field(default_factory=dict)
    _lives: set[asyncio.Task[None]] = field(default_factory=set)
    # Calls go on, whoever began or ended them.
    _context: Context = field(default_factory=copy_context)

    def dial(self, order: DialOrder) -> str:
        """Places a call; answers its SID."""
        sid = f"CA{order.attempt_id.hex}{self.dials[order.contact_id]}"
        self.dials[order.contact_id] += 1
        self.calls[sid] = CarrierCall(sid, "ringing", None, self.clock(), to=order.to, from_=order.from_)
        self._attempts[sid] = order.attempt_id
        life = asyncio.create_task(self._live(sid), context=self._context.copy())
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        return sid

    def is_over(self, sid: str) -> bool:
        """Whether a call has ended."""
        return self.calls[sid].is_final

    def stop(self) -> None:
        """Ends everything."""
        for task in self._lives:
            task.cancel()

    async def _live(self, sid: str) -> None:
        await asyncio.sleep(RING_S)
        if self.is_over(sid):
            return
        self._answered_at[sid] = self.clock()
        self.calls[sid] = replace(self.calls[sid], status="in-progress")
        await self.on_answered(self._attempts[sid], self.calls[sid])
        await asyncio.sleep(self.talk_s)
        await self.end(sid)

    async def end(self, sid: str) -> CarrierCall | None:
        """Hangs up, or cancels what rings; once."""
        call = self.calls.get(sid)
        if call is None or call.is_final:
            return call
        answered, now = self._answered_at.get(sid), self.clock()
        seconds = 0 if answered is None else max(1, round((now - answered).total_seconds()))
        status = "canceled" if answered is None else "completed"
        call = self.calls[sid] = replace(call, status=status, duration_s=seconds, ended=now)
        callback = asyncio.create_task(self.on_ended(self._attempts[sid], call), context=self._context.copy())
        self._lives.add(callback)
        callback.add_done_callback(self._lives.discard)
        return call


class PretendClient(Carrier):
    """The operator's client of it."""

    def __init__(self, carrier: PretendCarrier, account: CarrierAccount) -> None:
        self._carrier, self.account = carrier, account

    async def close(self) -> None:
        """There is nothing to close."""

    async def prove(self) -> None:
        """Every login is right."""

    async def fetch(self, sid: str) -> CarrierCall | None:
        """The call, or None."""
        await asyncio.sleep(ROUND_TRIP_S)
        return self._carrier.calls.get(sid)

    async def find(self, *, to: str, from_: str, since: datetime) -> list[CarrierCall]:
        """Calls between two numbers."""
        await asyncio.sleep(ROUND_TRIP_S)
        return [
            call for call in self._carrier.calls.values()
            if (call.to, call.from_) == (to, from_) and call.created is not None and call.created >= since
        ]  # fmt: skip

    async def day(self, start: datetime, end: datetime) -> AsyncIterator[list[CarrierCall]]:
        """A day's calls."""
        await asyncio.sleep(ROUND_TRIP_S)
        yield [call for call in self._carrier.calls.values() if call.created and start <= call.created < end]

    async def end(self, sid: str) -> CarrierCall | None:
        """Ends a call."""
        await asyncio.sleep(ROUND_TRIP_S)
        return await self._carrier.end(sid)
