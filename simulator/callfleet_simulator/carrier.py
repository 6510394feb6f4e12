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
from callfleet_simulator.dialqueue import DialQueue
from callfleet_simulator.errors import invalid, not_found, queue_full, refusal, too_many_requests, unfinished
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.faults import Faults
from callfleet_simulator.life import CallLife
from callfleet_simulator.line import Document, Line
from callfleet_simulator.pacing import Lateness
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.resource import API_VERSION
from callfleet_simulator.voiceless import voiceless
from callfleet_simulator.webhooks import Webhooks

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 8.0

FarEndFactory = Callable[[Call, Person], FarEnd]


@dataclass(frozen=True)
class CarrierConfig:
    """One account of this carrier. Durations in seconds; `numbers` empty: any caller ID is allowed.

    `max_calls` bounds the calls that were dialled and have not ended, `max_queued` those that wait for their turn.
    `price_delay_s` is a number, or two to draw between.
    """

    account_sid: str
    auth_token: str = field(repr=False)
    api_keys: dict[str, str] = field(default_factory=dict, repr=False)
    numbers: frozenset[str] = frozenset()
    max_calls: int = 50
    calls_per_second: float = 1.0
    max_queued: int = 1000
    queue_s: float = 0.2
    price_delay_s: float | tuple[float, float] = 2.0
    seed: int = 0


class Carrier:
    """Everything behind the REST API. Use as `async with`: leaving ends live calls and delivers callbacks."""

    def __init__(self, config: CarrierConfig, people: People, far_end: FarEndFactory = voiceless) -> None:
        self.config = config
        self.people = people
        self.prices = load_prices()
        self.calls = CallStore()
        self.lateness = Lateness()
        self.faults = Faults(people.faults, config.seed)
        self.queue = DialQueue(config.calls_per_second)
        self._far_end = far_end
        self._random = random.Random(config.seed)  # noqa: S311 - drawn to be repeatable, not secret
        self._lives: dict[str, CallLife] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._line: Line | None = None

    async def __aenter__(self) -> Carrier:
        self._line = Line(
            webhooks=Webhooks(self.config.auth_token),
            prices=self.prices,
            lateness=self.lateness,
            person_at=self.people.people.get,
            far_end=self._far_end,
            noise=lambda dbm0: LineNoise(self._random.getrandbits(32), dbm0),
            queue=self.queue,
            faults=self.faults,
            has_room=lambda: self.calls.dialled() < self.config.max_calls,
            queue_s=self.config.queue_s,
            price_delay_s=self._price_delay_s,
            closing=self._closing,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
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
        """Accepts a call, which is queued and begins to live. Raises ApiError: 20429, 22005, 21210, a refusal."""
        if self._line is None:
            raise RuntimeError("the carrier is not running: enter it with `async with` first")
        if self.calls.dialled() >= self.config.max_calls:
            raise too_many_requests(f"this account has at most {self.config.max_calls} calls at once")
        if self.queue.waiting >= self.config.max_queued:
            raise queue_full(self.config.max_queued)
        if self.config.numbers and request.from_ not in self.config.numbers:
            raise invalid(21210, "The source phone number provided is not yet verified for your account")
        person = self.people.people.get(request.to)
        if person is not None and person.behaviour is Behaviour.REFUSED:
            raise refusal(person.error_code)
        call = Call(new_sid("CA"), self.config.account_sid, request, date_created=now())
        call.queue_ms = self.queue.join()
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
        if call is None or call.deleted:
            raise not_found(f"/{API_VERSION}/Accounts/{self.config.account_sid}/Calls/{sid}.json")
        return call

    def _price_delay_s(self) -> float:
        delay = self.config.price_delay_s
        return self._random.uniform(*delay) if isinstance(delay, tuple) else delay

    def delete(self, call: Call) -> None:
        """Forgets an ended call, as far as the API can tell. Raises ApiError 20009."""
        if not call.ended:
            raise unfinished()
        call.deleted = True

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
            "queued": self.queue.waiting,
            "billed_micros": {
                "calls_outbound": sum(call.price_micros or 0 for call in calls),
                "media_streams": sum(call.stream_micros for call in calls),
                "machine_detection": sum(call.amd_micros for call in calls),
            },
            "answered_by": dict(Counter(call.answered_by for call in calls if call.answered_by)),
            "currency": self.prices.currency,
            "faults": self.faults.struck(),
            "warnings": dict(Counter(str(code) for call in calls for code in call.warnings)),
            "replies": len(replies),
            "reply_ms_p50": round(median(replies), 1) if replies else None,
            "cut_ins": sum(call.cut_ins for call in calls),
            "frames": self.lateness.frames,
            "frame_late_ms_p99": round(self.lateness.percentile(99), 3),
        }
