"""The calls' side of the speech sockets: a recogniser and a voice, each with a deadline and named errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from callfleet_worker.speech import wire

DECODE_DEADLINE_S = 8.0
SPEAK_DEADLINE_S = 10.0

_log = structlog.get_logger(__name__)


class SpeechError(Exception):
    """The speech process is down, busy or too slow; the call goes on with what it has."""


class Heard(BaseModel):
    """A decoded utterance (see `whisper_engine.Decoded`)."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    audio_s: float
    window: str


async def _request(
    socket: Path, header: dict[str, Any], payload: bytes, deadline_s: float
) -> tuple[dict[str, Any], bytes]:
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                await wire.send(writer, {**header, "deadline_s": deadline_s}, payload)
                answer, audio = await wire.receive(reader)
            finally:
                writer.close()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, wire.WireError) as error:
        raise SpeechError(f"no answer from {socket.name} ({type(error).__name__})") from error
    if "error" in answer:
        raise SpeechError(f"{socket.name}: {answer['error']}")
    return answer, audio


class Recogniser:
    """Whisper, behind its socket. Cancelling a decode drops it from the server's queue."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.decoded_s = 0.0

    async def decode(self, pcm16k: bytes, *, hint: str = "", deadline_s: float = DECODE_DEADLINE_S) -> Heard:
        """What was said in PCM16 mono at 16 kHz; `hint` is what was asked. Raises SpeechError."""
        answer, _ = await _request(self._socket, {"op": "decode", "hint": hint}, pcm16k, deadline_s)
        heard = Heard.model_validate(answer)
        self.decoded_s += heard.audio_s
        return heard


class Speaker:
    """Piper, behind its socket, and this call's own phrases, which outlive it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._phrases: dict[str, bytes] = {}
        self._rendering: dict[str, asyncio.Task[bytes]] = {}

    def cached(self, text: str) -> bytes | None:
        """A phrase that is ready, without waiting."""
        return self._phrases.get(text)

    async def speak(self, text: str, *, deadline_s: float = SPEAK_DEADLINE_S) -> bytes:
        """PCM16 mono at 8 kHz. Two askers of one text share the work. Raises SpeechError."""
        if text in self._phrases:
            return self._phrases[text]
        task = self._rendering.get(text)
        if task is None:
            task = self._rendering[text] = asyncio.ensure_future(self._render(text, deadline_s))
            task.add_done_callback(lambda _done: self._rendering.pop(text, None))
        return await asyncio.shield(task)

    async def prepare(self, text: str) -> bool:
        """Renders a text beforehand; false when it could not be."""
        try:
            await self.speak(text)
        except SpeechError:
            return False
        return True

    async def prepare_all(self, texts: Iterable[str]) -> None:
        """Renders many, in order; those that fail are rendered when they are needed."""
        failed = 0
        for text in texts:
            failed += not await self.prepare(text)
        if failed:
            _log.warning("some phrases could not be rendered beforehand", phrases=failed)

    async def close(self) -> None:
        """Drops what is still being rendered."""
        for task in list(self._rendering.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, SpeechError):
                await task

    async def _render(self, text: str, deadline_s: float) -> bytes:
        _, audio = await _request(self._socket, {"op": "speak", "text": text}, b"", deadline_s)
        self._phrases[text] = audio
        return audio
