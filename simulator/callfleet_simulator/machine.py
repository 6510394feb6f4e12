"""What may pick up instead of a person: an answering machine that records, or a fax."""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np
import structlog

from callfleet_simulator import tones
from callfleet_simulator.audio import FRAME_MS, FRAME_SAMPLES, Pcm, from_mulaw, level, rms
from callfleet_simulator.errors import SpeechError
from callfleet_simulator.people import Behaviour, Person, Voice

log = structlog.get_logger(__name__)

AUDIBLE_RMS = level(-45.0)


class Lines(Protocol):
    """Who says the greeting."""

    async def line(self, text: str, voice: Voice) -> Pcm:
        """The line, spoken."""


class Murmurs:
    """Says nothing that can be understood, in the right length: needs no model."""

    async def line(self, text: str, voice: Voice) -> Pcm:  # noqa: ARG002 - all murmur alike
        """The line, murmured."""
        return tones.murmur(text)


class Machine:
    """A far end (`far_end.FarEnd`): plays its tape, then records until the caller is silent or the tape is full."""

    def __init__(self, person: Person, lines: Lines) -> None:
        self.hung_up = asyncio.Event()
        self._person = person
        self._lines = lines
        self._tape: Pcm | None = None
        self._position = 0
        self._recorded_ms = 0
        self._quiet_ms = 0
        self._preparing = asyncio.create_task(self._prepare())

    def speak(self) -> Pcm | None:
        """The next 20 ms of the tape; None while it records."""
        if self._tape is None:
            return None
        samples = self._tape[self._position : self._position + FRAME_SAMPLES]
        self._position += FRAME_SAMPLES
        if len(samples):
            return np.pad(samples, (0, FRAME_SAMPLES - len(samples)))
        self._record()
        return None

    def hear(self, frame: bytes) -> None:
        """20 ms of what the caller says."""
        self._quiet_ms = 0 if rms(from_mulaw(frame)) > AUDIBLE_RMS else self._quiet_ms + FRAME_MS

    def sent(self, audible: bool) -> None:
        """Does not care."""

    async def aclose(self) -> None:
        """Switches off."""
        self._preparing.cancel()

    def _record(self) -> None:
        if self._recorded_ms == 0:
            self._quiet_ms = 0
        self._recorded_ms += FRAME_MS
        full = self._recorded_ms >= self._person.max_s * 1000
        if full or self._quiet_ms >= self._person.patience_s * 1000:
            self.hung_up.set()

    async def _prepare(self) -> None:
        parts = [tones.silence(self._person.answer_after_s)]
        if self._person.behaviour is Behaviour.FAX:
            parts.append(tones.fax())
        elif self._person.greeting is not None:
            try:
                parts.append(await self._lines.line(self._person.greeting, self._person.voice))
            except SpeechError as error:  # a machine with a broken tape still beeps
                log.error("a machine has no voice", error=str(error))
        if self._person.behaviour is Behaviour.MACHINE and self._person.beep:
            parts += [tones.silence(self._person.beep_after_s), tones.beep()]
        self._tape = np.concatenate(parts)
