"""A call's machine detection while it lives: it listens to what the called side says, whoever carries it."""

from __future__ import annotations

import asyncio

from callfleet_simulator.amd import AmdSettings, AnsweredBy, Detector
from callfleet_simulator.audio import FRAME_MS, SILENCE, Pcm
from callfleet_simulator.calls import Call
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.pacing import Lateness, Ticker


class Detection:
    """A far end around the real one, which overhears it. While nothing else does, `run` moves it on."""

    def __init__(self, call: Call, settings: AmdSettings, far_end: FarEnd, detected_as: AnsweredBy | None) -> None:
        self.settings = settings
        self.finished = asyncio.Event()
        self.carried = False
        self.hung_up = far_end.hung_up
        self._call = call
        self._far_end = far_end
        self._detected_as = detected_as
        self._detector = Detector(settings)

    async def run(self) -> None:
        """Until it is known who picked up, or `stop`."""
        ticker = Ticker(FRAME_MS / 1000, Lateness(kept=1))
        while not self.finished.is_set():
            await ticker.tick()
            if not self.carried:
                self.speak()
                self.hear(SILENCE)

    def stop(self) -> None:
        """The call ends before it is known."""
        if not self.finished.is_set():
            self._decide(AnsweredBy.UNKNOWN)

    def speak(self) -> Pcm | None:
        """What the far end says."""
        pcm = self._far_end.speak()
        if not self.finished.is_set() and (answer := self._detector.feed(pcm)) is not None:
            self._decide(self._detected_as or answer)
        return pcm

    def hear(self, frame: bytes) -> None:
        """Passes it on."""
        self._far_end.hear(frame)

    def sent(self, audible: bool) -> None:
        """Passes it on."""
        self._far_end.sent(audible)

    async def aclose(self) -> None:
        """Closes the far end."""
        await self._far_end.aclose()

    def _decide(self, answer: AnsweredBy) -> None:
        self._call.answered_by = answer.value
        self._call.amd_ms = self._detector.elapsed_ms
        self.finished.set()
