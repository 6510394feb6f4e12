"""Speech for all people of a simulator: Piper and Whisper processes, and a cache of spoken lines."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog

from callfleet_simulator.audio import Pcm
from callfleet_simulator.calls import Call
from callfleet_simulator.child import SpeechChild
from callfleet_simulator.errors import SpeechError
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.machine import Machine
from callfleet_simulator.mind import Mind, spoken_lines
from callfleet_simulator.people import MACHINES, People, Person, Voice
from callfleet_simulator.person import TalkingPerson
from callfleet_simulator.voiceless import voiceless

log = structlog.get_logger(__name__)

PIPER_MODEL = "piper/en_US-joe-medium.onnx"
WHISPER_FOLDER = "whisper-base"
# Part of the cache's key: raise it when lines are rendered in another way.
RENDERING = 1


def _make(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechError(
            f"no folder {cache_dir} can be made ({error.strerror}): give another --cache-dir, or none"
        ) from error


class Speech:
    """Speaks and hears for people. `async with`; needs the models in `models_dir`."""

    def __init__(self, people: People, models_dir: Path, cache_dir: Path | None, seed: int) -> None:
        self._people = people
        self._piper_model, self._whisper = models_dir / PIPER_MODEL, models_dir / WHISPER_FOLDER
        self._cache_dir = cache_dir
        self._piper = SpeechChild("callfleet_simulator.piper_process", str(self._piper_model))
        self._ears = SpeechChild("callfleet_simulator.whisper_process", str(self._whisper))
        self._lines: dict[str, Pcm] = {}
        self._random = random.Random(seed)  # noqa: S311 - drawn to be repeatable, not secret
        self._rendering: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Speech:
        for needed in (self._piper_model, Path(f"{self._piper_model}.json"), self._whisper / "model.bin"):
            if not needed.is_file():
                raise SpeechError(f"{needed} is missing: point CALLFLEET_MODELS_DIR at the folder with the models")
        if self._cache_dir is not None:
            _make(self._cache_dir)
        try:
            await asyncio.gather(self._piper.start(), self._ears.start())
        except BaseException:
            await self.__aexit__()
            raise
        self._rendering = asyncio.create_task(self._render_all(), name="render-lines")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._rendering is not None:
            self._rendering.cancel()
            with suppress(asyncio.CancelledError):
                await self._rendering
        await asyncio.gather(self._piper.aclose(), self._ears.aclose())

    def far_end(self, call: Call, person: Person) -> FarEnd:
        """A person's side of a call; those without greeting and script say nothing."""
        if person.behaviour in MACHINES:
            return Machine(person, self)
        if not person.talks:
            return voiceless(call, person)
        draw = random.Random(self._random.getrandbits(64))  # noqa: S311 - as above
        return TalkingPerson(call, person, Mind(person, self._people.rules_of(person), draw), self, draw)

    async def words(self, heard: Pcm) -> str:
        """What was said, in words. Raises SpeechError."""
        answer, _ = await self._ears.ask({}, heard.astype("<i2").tobytes())
        return str(answer["text"])

    async def line(self, text: str, voice: Voice) -> Pcm:
        """The line as this voice says it, 8 kHz; rendered once. Raises SpeechError."""
        key = self._key(text, voice)
        if key not in self._lines:
            cached = self._cached(key)
            self._lines[key] = await self._render(key, text, voice) if cached is None else cached
        return self._lines[key]

    def _key(self, text: str, voice: Voice) -> str:
        parts = (RENDERING, self._piper_model.name, voice.length_scale, voice.pitch, text)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    async def _render(self, key: str, text: str, voice: Voice) -> Pcm:
        request = {"text": text, "length_scale": voice.length_scale, "pitch": voice.pitch}
        _, payload = await self._piper.ask(request)
        if self._cache_dir is not None:
            self._keep(self._cache_dir, key, payload)
        return np.frombuffer(payload, dtype="<i2").astype(np.int16)

    def _keep(self, cache_dir: Path, key: str, payload: bytes) -> None:
        # Simulators in containers share a folder, and have the same process id.
        part = cache_dir / f"{key}.{secrets.token_hex(8)}.part"
        try:
            part.write_bytes(payload)
            part.replace(cache_dir / f"{key}.pcm")
        except OSError as error:
            log.warning("a spoken line could not be kept", folder=str(cache_dir), error=error.strerror)
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _cached(self, key: str) -> Pcm | None:
        if self._cache_dir is None:
            return None
        file = self._cache_dir / f"{key}.pcm"
        return np.frombuffer(file.read_bytes(), dtype="<i2").astype(np.int16) if file.is_file() else None

    async def _render_all(self) -> None:
        """Renders what people may say before they have to; calls that need a line sooner go between."""
        for person in self._people.people.values():
            if not person.talks:
                continue
            for text in spoken_lines(person, self._people.rules_of(person)):
                await self.line(text, person.voice)
        log.info("lines rendered", lines=len(self._lines))
