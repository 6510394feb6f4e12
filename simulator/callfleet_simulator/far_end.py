"""The far end of an answered call: what the carrier needs to know of a person."""

from __future__ import annotations

import asyncio
from typing import Protocol

from callfleet_simulator.audio import Pcm


class FarEnd(Protocol):
    """Somebody on the line. `speak` and `hear` are called every 20 ms and must return at once."""

    hung_up: asyncio.Event

    def speak(self) -> Pcm | None:
        """The next 160 samples that the person says, or None while they are silent."""

    def hear(self, frame: bytes) -> None:
        """20 ms of μ-law as they leave the carrier's play-out buffer."""

    def sent(self, audible: bool) -> None:
        """The application sent audio (before it is played out); `audible` when it is not silence."""

    async def aclose(self) -> None:
        """The call is over."""


class SilentPerson:
    """Answers and says nothing: only the line's noise is heard. Hangs up never."""

    def __init__(self) -> None:
        self.hung_up = asyncio.Event()

    def speak(self) -> Pcm | None:
        """Nothing."""
        return None

    def hear(self, frame: bytes) -> None:
        """Listens to nothing."""

    def sent(self, audible: bool) -> None:
        """Waits for nothing."""

    async def aclose(self) -> None:
        """Holds nothing."""
