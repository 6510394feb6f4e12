"""A call's life at the carrier: queued, ringing, in progress or not, and the end that is billed."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urljoin

import structlog

from callfleet_simulator import billing
from callfleet_simulator.audio import NOISE_DBM0
from callfleet_simulator.callbacks import CallbackQueue, amd_params, call_params
from callfleet_simulator.calls import Call, CallStatus, now
from callfleet_simulator.detection import Detection
from callfleet_simulator.errors import TwimlError
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.faults import Kind
from callfleet_simulator.holding import hold
from callfleet_simulator.line import Document, Line
from callfleet_simulator.media import CLOSED_BY_SERVER, MediaStream, Trouble
from callfleet_simulator.people import Behaviour, Person
from callfleet_simulator.tones import murmur
from callfleet_simulator.twiml import Hangup, Pause, Reject, Say, Stream, Verb, parse
from callfleet_simulator.webhooks import WebhookError

log = structlog.get_logger(__name__)

UNKNOWN_NUMBER_S = 0.5  # what a network takes to say that a number is not in service
MAX_DOCUMENTS = 50  # a call that is redirected for ever ends here
RETRIEVAL_FAILED = 11200
TOO_MANY_AT_ONCE = 10004
NO_AMD_CALLBACK = 21262
STREAM_FAULTS = (Kind.DYING_STREAM, Kind.FROZEN_STREAM)


class CallLife:
    """Lives one call. `run` is its task; `end` and `redirect` are what REST may do to it meanwhile."""

    def __init__(self, call: Call, line: Line) -> None:
        self.call = call
        self._line = line
        self._over = asyncio.Event()
        self._end_status = CallStatus.COMPLETED
        self._interrupt = asyncio.Event()
        self._next: Document | None = None
        self._stream_seconds: list[float] = []
        self._noise_dbm0 = NOISE_DBM0
        self._detection: Detection | None = None
        self._listening: asyncio.Task[None] | None = None

    def end(self, status: CallStatus) -> None:
        """Ends the call as soon as its task runs: canceled while it rings, completed later."""
        if not self._over.is_set():
            self._end_status = status
            self._over.set()
            if self._detection is not None:
                self._detection.stop()
            self._interrupt.set()

    def redirect(self, document: Document) -> None:
        """Goes on with other TwiML, in the middle of whatever happens now."""
        self._next = document
        self._interrupt.set()

    async def run(self) -> None:
        """From queued to billed, with every callback delivered or given up."""
        callbacks = CallbackQueue(self.call, self._line.webhooks, self._line.faults)
        try:
            await self._dial(callbacks)
        except asyncio.CancelledError:  # stopped hard: nothing is delivered any more
            callbacks.cancel()
            raise
        log.info(
            "call ended",
            call_sid=self.call.sid,
            status=self.call.status.value,
            duration_s=self.call.duration_s,
        )
        callbacks.post("completed")
        await asyncio.gather(callbacks.finish(), self._price(), *([self._listening] if self._listening else []))

    async def _dial(self, callbacks: CallbackQueue) -> None:
        if not await self._line.queue.turn(self._over):
            return self._close(self._end_status)
        if not self._line.has_room():
            self._warn(TOO_MANY_AT_ONCE, "the account's calls at once are used up")
            return self._close(CallStatus.FAILED)
        self.call.dialled = True
        if await self._waited(self._line.queue_s):
            return self._close(self._end_status)
        callbacks.post("initiated")
        person = self._line.person_at(self.call.request.to)
        if person is None:
            canceled = await self._waited(UNKNOWN_NUMBER_S)
            return self._close(self._end_status if canceled else CallStatus.FAILED, sip_code=404)
        if person.behaviour is Behaviour.FAILED:
            canceled = await self._waited(UNKNOWN_NUMBER_S)
            return self._close(self._end_status if canceled else CallStatus.FAILED, sip_code=person.sip_code)
        self.call.start_time = now()
        self.call.move(CallStatus.RINGING)
        callbacks.post("ringing")
        timeout_s = self.call.request.ring_timeout_s
        rings_s = math.inf if person.behaviour is Behaviour.NO_ANSWER else person.ring_s
        if await self._waited(min(rings_s, timeout_s)):
            return self._close(CallStatus.CANCELED, sip_code=487)
        if person.behaviour is Behaviour.BUSY:
            return self._close(CallStatus.BUSY, sip_code=486)
        if rings_s > timeout_s:
            return self._close(CallStatus.NO_ANSWER, sip_code=480)
        self.call.answered = True
        self.call.move(CallStatus.IN_PROGRESS)
        callbacks.post("answered")
        return await self._talk(person)

    async def _waited(self, seconds: float) -> bool:
        """Waits so long; True at once when the call was ended meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return self._over.is_set()

    def _close(self, status: CallStatus, sip_code: int | None = None) -> None:
        self.call.end_time = now()
        self.call.sip_code = sip_code
        self.call.move(status)

    async def _talk(self, person: Person) -> None:
        loop = asyncio.get_running_loop()
        answered_at = loop.time()
        limit_s = self.call.request.time_limit_s
        limit = loop.call_later(limit_s, self.end, CallStatus.COMPLETED)
        self._noise_dbm0 = person.noise_dbm0
        far_end = self._overheard(self._line.far_end(self.call, person), person)
        hang_up = asyncio.create_task(self._when_hung_up(far_end))
        try:
            await self._detect()
            await self._follow_documents(far_end)
        finally:
            self.end(CallStatus.COMPLETED)
            limit.cancel()
            hang_up.cancel()
            with suppress(asyncio.CancelledError):
                await hang_up
            await far_end.aclose()
            # The limit is exact for the bill, whatever the timer's lateness.
            self.call.duration_s = math.ceil(min(loop.time() - answered_at, limit_s))
            billing.bill(self.call, self._line.prices, self._stream_seconds)
            self._close(CallStatus.COMPLETED, sip_code=200)

    def _overheard(self, far_end: FarEnd, person: Person) -> FarEnd:
        settings = self.call.request.amd
        if settings is None:
            return far_end
        self._detection = Detection(self.call, settings, far_end, person.detected_as)
        return self._detection

    async def _detect(self) -> None:
        """Starts machine detection, if it is wanted, and waits for it unless it runs beside the call."""
        if self._detection is None:
            return None
        settings = self._detection.settings
        if not settings.asynchronous:
            return await self._detection.run()
        if settings.callback is None:
            self._warn(NO_AMD_CALLBACK, "machine detection beside the call has no callback to tell")
        self._listening = asyncio.create_task(self._tell_who_answered(self._detection))
        return None

    async def _tell_who_answered(self, detection: Detection) -> None:
        await detection.run()
        url = detection.settings.callback
        if url is not None:
            params = {"CallSid": self.call.sid, "AccountSid": self.call.account_sid, **amd_params(self.call)}
            await self._line.webhooks.notify(url, detection.settings.callback_method, params, secrets.token_hex(16))

    async def _when_hung_up(self, far_end: FarEnd) -> None:
        await far_end.hung_up.wait()
        self.end(CallStatus.COMPLETED)

    async def _follow_documents(self, far_end: FarEnd) -> None:
        request = self.call.request
        document: Document | None = Document(url=request.url, twiml=request.twiml, method=request.method)
        for _ in range(MAX_DOCUMENTS):
            if document is None or self._over.is_set():
                return
            self._interrupt.clear()
            try:
                verbs = parse(await self._fetch(document))
            except (WebhookError, TwimlError) as error:
                code = error.code if isinstance(error, TwimlError) else RETRIEVAL_FAILED
                self._warn(code, str(error))
                return
            document = await self._follow(verbs, far_end)

    async def _fetch(self, document: Document) -> str:
        if document.url is None:
            return document.twiml or ""
        params = call_params(self.call)
        if self._detection is not None and not self._detection.settings.asynchronous:
            params |= amd_params(self.call)
        try:
            return await self._line.webhooks.fetch_twiml(document.url, document.method, params)
        except WebhookError:
            fallback = self.call.request.fallback_url
            if fallback is None:
                raise
            failed = {"ErrorCode": str(RETRIEVAL_FAILED), "ErrorUrl": document.url}
            method = self.call.request.fallback_method
            return await self._line.webhooks.fetch_twiml(fallback, method, {**params, **failed})

    async def _follow(self, verbs: list[Verb], far_end: FarEnd) -> Document | None:
        """Runs a document's verbs. Returns the document to go on with, or None: the call is over."""
        for verb in verbs:
            if self._over.is_set():
                return None
            match verb:
                case Hangup() | Reject():
                    return None
                case Say(seconds, words):
                    with self._carried():
                        await hold(far_end, seconds, self._interrupt, murmur(words))
                case Pause(seconds):
                    with self._carried():
                        await hold(far_end, seconds, self._interrupt)
                case Stream():
                    await self._stream(verb, far_end)
            if self._interrupt.is_set():  # ended, or redirected
                document, self._next = self._next, None
                return document
            if isinstance(verb, Stream) and verb.action is not None:
                return Document(url=urljoin(self.call.request.url or "", verb.action))
        return None

    async def _stream(self, verb: Stream, far_end: FarEnd) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        noise = self._line.noise(self._noise_dbm0)
        stream = MediaStream(self.call, verb, far_end, noise, self._line.lateness, self._trouble())
        with self._carried():
            end = await stream.run(self._line.webhooks.signature(verb.url, {}), self._interrupt)
        if end.code is not None:
            self._warn(end.code, "the media stream was ended by the other side or broke")
        if stream.connected:
            self._stream_seconds.append(math.ceil(loop.time() - began))

    @contextmanager
    def _carried(self) -> Iterator[None]:
        """While something else moves the called side on, machine detection only listens to it."""
        if self._detection is None:
            yield
            return
        self._detection.carried = True
        try:
            yield
        finally:
            self._detection.carried = False

    def _trouble(self) -> Trouble:
        dies, freezes = (self._line.faults.strike(kind, self.call.request.to) for kind in STREAM_FAULTS)
        return Trouble(dies.after_s if dies else None, freezes.after_s if freezes else None)

    def _warn(self, code: int, reason: str) -> None:
        self.call.warnings.append(code)
        # The application closing its stream is how most calls end: worth a note, not a warning.
        say = log.info if code == CLOSED_BY_SERVER else log.warning
        say("carrier note", call_sid=self.call.sid, code=code, reason=reason)

    async def _price(self) -> None:
        late = self._line.faults.strike(Kind.LATE_PRICE, self.call.request.to)
        delay_s = late.after_s if late else self._line.price_delay_s()
        with suppress(TimeoutError):  # a simulator that stops closes its books
            await asyncio.wait_for(self._line.closing.wait(), delay_s)
        self.call.price_micros = billing.connectivity_micros(self.call, self._line.prices)
        self.call.date_updated = now()
