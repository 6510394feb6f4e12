"""Twilio Media Streams, the carrier's side: one bidirectional stream of one call, in real time."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from callfleet_simulator.audio import FRAME_MS, SAMPLE_RATE, LineNoise, from_mulaw, level, rms
from callfleet_simulator.calls import Call, new_sid
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.pacing import Lateness, Ticker
from callfleet_simulator.playout import Playout
from callfleet_simulator.twiml import Stream

log = structlog.get_logger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 1024 * 1024
AUDIBLE_RMS = level(-45.0)

HANDSHAKE_FAILED = 31920
CLOSED_BY_SERVER = 31921
CONNECTION_BROKEN = 31903
BAD_MESSAGE = 31951


@dataclass(frozen=True)
class StreamEnd:
    """How a stream ended: a warning code of Twilio's, or None when the carrier ended it."""

    code: int | None


@dataclass(frozen=True)
class Trouble:
    """What is to go wrong, so many seconds after the stream began: its connection breaks, or it falls silent."""

    dies_s: float | None = None
    freezes_s: float | None = None


class MediaStream:
    """Runs one stream until the server closes it, the call ends (`call_over`), or the connection breaks."""

    def __init__(
        self,
        call: Call,
        verb: Stream,
        person: FarEnd,
        noise: LineNoise,
        lateness: Lateness,
        trouble: Trouble = Trouble(),
    ) -> None:
        self._call = call
        self._verb = verb
        self._person = person
        self._noise = noise
        self._lateness = lateness
        self._trouble = trouble
        self._playout = Playout()
        self._sid = new_sid("MZ")
        self._sequence = 0
        self._chunk = 0
        self._marks: list[str] = []
        self.bad_messages = 0
        self.connected = False

    async def run(self, signature: str, call_over: asyncio.Event) -> StreamEnd:
        """Connects, streams, and says how it ended. Raises nothing that belongs to the connection."""
        try:
            socket = await connect(
                self._verb.url,
                additional_headers={"X-Twilio-Signature": signature},
                user_agent_header="Twilio.TmeWs/1.0",
                compression=None,  # Twilio sends none, and it would cost time on every frame
                open_timeout=HANDSHAKE_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=MAX_MESSAGE_BYTES,
                proxy=None,
            )
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError) as error:
            log.warning("media stream refused", call_sid=self._call.sid, error=type(error).__name__)
            return StreamEnd(HANDSHAKE_FAILED)
        self.connected = True
        async with socket:
            return await self._converse(socket, call_over)

    async def _converse(self, socket: ClientConnection, call_over: asyncio.Event) -> StreamEnd:
        tasks = {
            asyncio.create_task(self._send(socket)): "send",
            asyncio.create_task(self._receive(socket)): "receive",
            asyncio.create_task(call_over.wait()): "over",
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ConnectionClosed):
                raise result
        if any(tasks[task] == "over" for task in done):
            await self._say_stop(socket)
            return StreamEnd(None)
        orderly = socket.close_code in {1000, 1001}
        return StreamEnd(CLOSED_BY_SERVER if orderly else CONNECTION_BROKEN)

    async def _say_stop(self, socket: ClientConnection) -> None:
        stop = {"accountSid": self._call.account_sid, "callSid": self._call.sid}
        with contextlib.suppress(ConnectionClosed):  # the server may be gone already; the call is over anyway
            await socket.send(self._message("stop", stop))

    async def _send(self, socket: ClientConnection) -> None:
        self._call.pressed.clear()  # keys that were pressed before there was a stream are not told
        await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        await socket.send(self._message("start", self._start()))
        ticker = Ticker(FRAME_MS / 1000, self._lateness)
        while True:
            await ticker.tick()
            if self._has_reached(self._trouble.dies_s):
                return socket.transport.abort()
            if self._has_reached(self._trouble.freezes_s):
                await asyncio.Event().wait()  # until the call is over or the other side has had enough
            await socket.send(self._message("media", self._next_frame()))
            await self._tell_keys(socket)
            heard, reached = self._playout.pop()
            self._person.hear(heard)
            reached, self._marks = [*self._marks, *reached], []
            for name in reached:
                await socket.send(self._message("mark", {"name": name}))

    async def _tell_keys(self, socket: ClientConnection) -> None:
        while self._call.pressed:
            await socket.send(self._message("dtmf", {"track": "inbound_track", "digit": self._call.pressed.popleft()}))

    def _has_reached(self, after_s: float | None) -> bool:
        return after_s is not None and self._chunk * FRAME_MS >= after_s * 1000

    def _start(self) -> dict[str, Any]:
        return {
            "accountSid": self._call.account_sid,
            "streamSid": self._sid,
            "callSid": self._call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE, "channels": 1},
            "customParameters": self._verb.parameters,
        }

    def _next_frame(self) -> dict[str, str]:
        payload = self._noise.frame(self._person.speak())
        self._chunk += 1
        return {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str((self._chunk - 1) * FRAME_MS),
            "payload": base64.b64encode(payload).decode("ascii"),
        }

    def _message(self, event: str, body: dict[str, Any]) -> str:
        self._sequence += 1
        return json.dumps({"event": event, "sequenceNumber": str(self._sequence), event: body, "streamSid": self._sid})

    async def _receive(self, socket: ClientConnection) -> None:
        async for text in socket:
            try:
                self._accept(json.loads(text))
            except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
                self.bad_messages += 1  # Twilio warns with 31951 and ignores the message
                if self.bad_messages == 1:
                    log.warning("bad stream message", call_sid=self._call.sid, code=BAD_MESSAGE)

    def _accept(self, message: dict[str, Any]) -> None:
        if message["streamSid"] != self._sid:
            raise ValueError("another stream's message")
        match message["event"]:
            case "media":
                audio = base64.b64decode(message["media"]["payload"], validate=True)
                self._person.sent(rms(from_mulaw(audio)) > AUDIBLE_RMS)
                self._playout.add_audio(audio)
            case "mark":
                self._marks += self._playout.add_mark(str(message["mark"]["name"]))
            case "clear":
                self._marks += self._playout.clear()
            case _:
                raise ValueError("unknown event")
