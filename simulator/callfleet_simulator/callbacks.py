"""A call's status callbacks: numbered, and delivered in order, one after the other."""

from __future__ import annotations

import asyncio

from callfleet_simulator.billing import started_minutes
from callfleet_simulator.calls import Call, now
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
        if call.sip_code is not None:
            params["SipResponseCode"] = str(call.sip_code)
    return params


class CallbackQueue:
    """Sends one call's callbacks in order, in its own task, so that a slow application delays no audio."""

    def __init__(self, call: Call, webhooks: Webhooks) -> None:
        self._call = call
        self._webhooks = webhooks
        self._queue: asyncio.Queue[dict[str, str] | None] = asyncio.Queue(MAX_PENDING)
        self._task = asyncio.create_task(self._deliver(), name=f"callbacks-{call.sid}")

    def post(self, event: str) -> None:
        """Queues an event, if the customer asked for it. Every final status is the event `completed`."""
        request = self._call.request
        if request.status_callback is not None and event in request.status_callback_events:
            self._queue.put_nowait(event_params(self._call, event))

    async def finish(self) -> None:
        """Waits until everything is delivered or given up."""
        await self._queue.put(None)
        await self._task

    def cancel(self) -> None:
        """Delivers nothing more."""
        self._task.cancel()

    async def _deliver(self) -> None:
        request = self._call.request
        while (params := await self._queue.get()) is not None:
            if request.status_callback is not None:
                await self._webhooks.notify(request.status_callback, request.status_callback_method, params)
