"""The carrier: takes call requests, lives the calls, keeps the books."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import structlog

from callfleet_simulator.audio import LineNoise
from callfleet_simulator.billing import load_prices
from callfleet_simulator.calls import Call, CallRequest, CallStatus, CallStore, new_sid, now
from callfleet_simulator.errors import invalid, not_found, too_many_requests
from callfleet_simulator.far_end import FarEnd, SilentPerson
from callfleet_simulator.life import CallLife, Document, Line
from callfleet_simulator.pacing import Lateness
from callfleet_simulator.people import People, Person
from callfleet_simulator.resource import API_VERSION
from callfleet_simulator.webhooks import Webhooks

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 8.0

FarEndFactory = Callable[[Call, Person], FarEnd]


def silent(_call: Call, _person: Person) -> FarEnd:
    """The default far end: answers and says nothing, needs no models."""
    return SilentPerson()


@dataclass(frozen=True)
class CarrierConfig:
    """One account of this carrier. Durations in seconds; `numbers` empty: any caller ID is allowed."""

    account_sid: str
    auth_token: str = field(repr=False)
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    numbers: frozenset[str] = frozenset()
    max_calls: int = 50
    queue_s: float = 0.2
    price_delay_s: float = 2.0
    seed: int = 0


class Carrier:
    """Everything behind the REST API. Use as `async with`: leaving ends live calls and delivers callbacks."""

    def __init__(self, config: CarrierConfig, people: People, far_end: FarEndFactory = silent) -> None:
        self.config = config
        self.people = people
        self.prices = load_prices()
        self.calls = CallStore()
        self.lateness = Lateness()
        self._far_end = far_end
        self._random = random.Random(config.seed)  # noqa: S311 - drawn to be repeatable, not secret
        self._lives: dict[str, CallLife] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._line: Line | None = None

    async def __aenter__(self) -> Carrier:
        self._line = Line(
            webhooks=Webhooks(self.config.auth_token),
            prices=self.prices,
            lateness=self.lateness,
            person_at=self.people.people.get,
            far_end=self._far_end,
            noise=lambda: LineNoise(self._random.getrandbits(32)),
            queue_s=self.config.queue_s,
            price_delay_s=self.config.price_delay_s,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for life in list(self._lives.values()):
            life.end(CallStatus.COMPLETED if life.call.answered else CallStatus.CANCELED)
        if self._tasks:
            _done, late = await asyncio.wait(set(self._tasks), timeout=STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._line is not None:
            await self._line.webhooks.aclose()

    def place(self, request: CallRequest) -> Call:
        """Accepts a call, which begins to live at once. Raises ApiError 20429 over the bound."""
        if self._line is None:
            raise RuntimeError("the carrier is not running: enter it with `async with` first")
        if self.calls.live() >= self.config.max_calls:
            raise too_many_requests(self.config.max_calls)
        if self.config.numbers and request.from_ not in self.config.numbers:
            raise invalid(21210, "The source phone number provided is not yet verified for your account")
        call = Call(new_sid("CA"), self.config.account_sid, request, date_created=now())
        self.calls.add(call)
        life = CallLife(call, self._line)
        self._lives[call.sid] = life
        task = asyncio.create_task(life.run(), name=f"call-{call.sid}")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(call, done))
        log.info("call placed", call_sid=call.sid)
        return call

    def _forget(self, call: Call, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._lives.pop(call.sid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call's task failed", call_sid=call.sid, exc_info=error)
        if not call.ended:
            call.move(CallStatus.FAILED)  # no call may stay live in the books

    def find(self, sid: str) -> Call:
        """The call of that SID. Raises ApiError 20404."""
        call = self.calls.get(sid)
        if call is None:
            raise not_found(f"/{API_VERSION}/Accounts/{self.config.account_sid}/Calls/{sid}.json")
        return call

    async def change_status(self, call: Call, status: str) -> None:
        """`canceled`: only what has not been answered; `completed`: whatever is live. Waits until it took effect.

        On a call where it has nothing to do it does nothing, as the real API.
        """
        if call.ended or (status == "canceled" and call.answered):
            return
        life = self._lives[call.sid]
        life.end(CallStatus.COMPLETED if call.answered else CallStatus.CANCELED)
        for _ in range(100):  # bounded: the resource is returned as it is then
            if call.ended:
                return
            await asyncio.sleep(0.01)

    def redirect(self, call: Call, document: Document) -> None:
        """New TwiML for a live call. Raises ApiError 21220 when it is not in progress."""
        if call.status is not CallStatus.IN_PROGRESS:
            raise invalid(21220, "Call is not in-progress. Cannot redirect.")
        self._lives[call.sid].redirect(document)

    def stats(self) -> dict[str, object]:
        """What happened so far, in numbers only."""
        calls = list(self.calls.newest_first())
        replies = [reply for call in calls for reply in call.reply_ms]
        return {
            "calls": dict(Counter(call.status.value for call in calls)),
            "live": self.calls.live(),
            "billed_micros": {
                "calls_outbound": sum(call.price_micros or 0 for call in calls),
                "media_streams": sum(call.stream_micros for call in calls),
            },
            "currency": self.prices.currency,
            "warnings": dict(Counter(str(code) for call in calls for code in call.warnings)),
            "replies": len(replies),
            "reply_ms_p50": round(median(replies), 1) if replies else None,
            "cut_ins": sum(call.cut_ins for call in calls),
            "frames": self.lateness.frames,
            "frame_late_ms_p99": round(self.lateness.percentile(99), 3),
        }
