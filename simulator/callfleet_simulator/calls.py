"""One call as the carrier knows it, and the bounded list of all of them."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from callfleet_simulator.amd import AmdSettings


class CallStatus(StrEnum):
    """Twilio's status values of a call. (`initiated` exists only as a callback event.)"""

    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"


FINAL = frozenset({CallStatus.COMPLETED, CallStatus.BUSY, CallStatus.FAILED, CallStatus.NO_ANSWER, CallStatus.CANCELED})


def new_sid(prefix: str) -> str:
    """A fresh identifier of Twilio's shape: two letters and 32 hex digits."""
    return prefix + secrets.token_hex(16)


def now() -> datetime:
    """The present in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class CallRequest:
    """What the customer asked for, as checked by the REST layer. Durations are in seconds."""

    to: str
    from_: str
    url: str | None = None
    method: str = "POST"
    twiml: str | None = None
    fallback_url: str | None = None
    fallback_method: str = "POST"
    status_callback: str | None = None
    status_callback_method: str = "POST"
    status_callback_events: frozenset[str] = frozenset({"completed"})
    amd: AmdSettings | None = None
    ring_timeout_s: float = 60
    time_limit_s: float = 14_400


@dataclass
class Call:
    """A call's record. Changed only by the task that lives it (`life.py`) and by REST updates."""

    sid: str
    account_sid: str
    request: CallRequest
    date_created: datetime
    status: CallStatus = CallStatus.QUEUED
    date_updated: datetime = field(default_factory=now)
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration_s: int | None = None
    dialled: bool = False
    answered: bool = False
    sip_code: int | None = None
    answered_by: str | None = None
    amd_ms: int = 0
    amd_micros: int = 0
    price_micros: int | None = None
    stream_micros: int = 0
    stream_minutes: int = 0
    billed_minutes: int = 0
    sequence: int = 0
    queue_ms: int = 0
    deleted: bool = False  # hidden from the API; what it cost stays on the bill
    warnings: list[int] = field(default_factory=list)
    reply_ms: list[float] = field(default_factory=list)  # last speech sample sent to first audible sample received
    cut_ins: int = 0
    pressed: deque[str] = field(default_factory=deque)  # keys that the stream has not told yet

    @property
    def ended(self) -> bool:
        """True once the status is final."""
        return self.status in FINAL

    def move(self, status: CallStatus) -> None:
        """Sets the status and the time of the change."""
        self.status = status
        self.date_updated = now()


class CallStore:
    """All calls, newest last; the oldest ended ones are forgotten beyond `capacity`."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._calls: dict[str, Call] = {}
        self._capacity = capacity

    def add(self, call: Call) -> None:
        """Remembers a new call."""
        self._calls[call.sid] = call
        if len(self._calls) > self._capacity:
            oldest = next((c.sid for c in self._calls.values() if c.ended), None)
            if oldest is not None:
                del self._calls[oldest]

    def get(self, sid: str) -> Call | None:
        """The call of that SID, if it is still remembered."""
        return self._calls.get(sid)

    def newest_first(self) -> Iterator[Call]:
        """Every call, the newest first."""
        return reversed(self._calls.values())

    def listed(self) -> Iterator[Call]:
        """Every call that was not deleted, the newest first."""
        return (call for call in self.newest_first() if not call.deleted)

    def live(self) -> int:
        """How many calls have not ended; queued ones count too."""
        return sum(not call.ended for call in self._calls.values())

    def dialled(self) -> int:
        """How many calls have left the queue and have not ended: the account's concurrency."""
        return sum(call.dialled and not call.ended for call in self._calls.values())
