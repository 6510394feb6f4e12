"""A call's status callbacks: numbered, and delivered in order, one after the other."""

from __future__ import annotations

import asyncio
import secrets

from callfleet_simulator.billing import started_minutes
from callfleet_simulator.calls import Call, now
from callfleet_simulator.faults import Faults, Kind, Strike
from callfleet_simulator.resource import API_VERSION, rfc2822
from callfleet_simulator.webhooks import Webhooks

EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
MAX_PENDING = 16  # a call has four events; REST updates add none


def call_params(call: Call) -> dict[str, str]:
    """The parameters that every voice webhook carries."""
    return {
        "CallSid": call.sid,
        "AccountSid": call.account_sid,
        "ApiVersion": API_VERSION,
        "CallStatus": call.status.value,
        "Direction": "outbound-api",
        "From": call.request.from_,
        "To": call.request.to,
        "Caller": call.request.from_,
        "Called": call.request.to,
    }


def amd_params(call: Call) -> dict[str, str]:
    """What machine detection found, as its own callback and the first request for TwiML carry it."""
    return {"AnsweredBy": call.answered_by or "unknown", "MachineDetectionDuration": str(call.amd_ms)}


def event_params(call: Call, event: str) -> dict[str, str]:
    """A status callback's parameters; uses up one of the call's sequence numbers."""
    params = call_params(call)
    if event == "initiated":
        params["CallStatus"] = "initiated"
    params["CallbackSource"] = "call-progress-events"
    params["SequenceNumber"] = str(call.sequence)
    params["Timestamp"] = rfc2822(now()) or ""
    call.sequence += 1
    if event == "completed":
        duration_s = call.duration_s or 0
        params["CallDuration"] = str(duration_s)
        params["Duration"] = str(started_minutes(duration_s) if call.answered else 0)
        if call.answered_by is not None:
            params["AnsweredBy"] = call.answered_by
        if call.sip_code is not None:
            params["SipResponseCode"] = str(call.sip_code)
    return params


Posted = tuple[str, dict[str, str]]  # an event and its parameters


class CallbackQueue:
    """Sends one call's callbacks in order, in its own task, so that a slow application delays no audio.

    Faults may drop, double, swap or delay them.
    """

    def __init__(self, call: Call, webhooks: Webhooks, faults: Faults) -> None:
        self._call = call
        self._webhooks = webhooks
        self._faults = faults
        self._queue: asyncio.Queue[Posted | None] = asyncio.Queue(MAX_PENDING)
        self._delayed: list[asyncio.Task[None]] = []
        self._task = asyncio.create_task(self._deliver(), name=f"callbacks-{call.sid}")

    def post(self, event: str) -> None:
        """Queues an event, if the customer asked for it. Every final status is the event `completed`."""
        request = self._call.request
        if request.status_callback is not None and event in request.status_callback_events:
            self._queue.put_nowait((event, event_params(self._call, event)))

    async def finish(self) -> None:
        """Waits until everything is delivered or given up."""
        await self._queue.put(None)
        await self._task
        await asyncio.gather(*self._delayed)

    def cancel(self) -> None:
        """Delivers nothing more."""
        for task in (self._task, *self._delayed):
            task.cancel()

    async def _deliver(self) -> None:
        held: Posted | None = None
        while (posted := await self._queue.get()) is not None:
            held = await self._deliver_one(posted, held)
        if held is not None:
            await self._send(held)

    async def _deliver_one(self, posted: Posted, held: Posted | None) -> Posted | None:
        """Sends it, and then what was held back for it. Answers what is held back now."""
        if self._strikes(Kind.DROPPED_CALLBACK, posted):
            return held
        if late := self._strikes(Kind.DELAYED_CALLBACK, posted):
            self._delayed.append(asyncio.create_task(self._send_later(posted, late.after_s)))
            return held
        if held is None and self._strikes(Kind.REORDERED_CALLBACK, posted):
            return posted
        await self._send(posted, times=2 if self._strikes(Kind.DUPLICATED_CALLBACK, posted) else 1)
        if held is not None:
            await self._send(held)
        return None

    def _strikes(self, kind: Kind, posted: Posted) -> Strike | None:
        return self._faults.strike(kind, self._call.request.to, event=posted[0])

    async def _send_later(self, posted: Posted, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._send(posted)

    async def _send(self, posted: Posted, times: int = 1) -> None:
        request, token = self._call.request, secrets.token_hex(16)
        for _ in range(times):
            if request.status_callback is not None:
                await self._webhooks.notify(request.status_callback, request.status_callback_method, posted[1], token)
