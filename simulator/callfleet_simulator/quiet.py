"""Somebody who never says a word, yet presses keys and hangs up: needs no models."""

from __future__ import annotations

import asyncio

import numpy as np

from callfleet_simulator.acts import Acts, Keypad
from callfleet_simulator.audio import FRAME_SAMPLES, Pcm
from callfleet_simulator.calls import Call
from callfleet_simulator.people import Person
from callfleet_simulator.turns import Turns


class QuietPerson:
    """A far end (`far_end.FarEnd`) whose acts are all it does."""

    def __init__(self, call: Call, person: Person) -> None:
        self.hung_up = asyncio.Event()
        self._acts = Acts(person.acts)
        self._keypad = Keypad(call)
        self._turns = Turns()
        self._frame = 0
        self._sound: Pcm | None = None

    def speak(self) -> Pcm | None:
        """The next 20 ms: silence, or a key's tones."""
        self._frame += 1
        for act in self._acts.due(self._frame):
            if act.hangs_up:
                self.hung_up.set()
            self._keypad.press(act.keys or "")
        if self._sound is None or not len(self._sound):
            self._sound = self._keypad.next()
        if self._sound is None:
            return None
        samples, self._sound = self._sound[:FRAME_SAMPLES], self._sound[FRAME_SAMPLES:]
        return np.pad(samples, (0, FRAME_SAMPLES - len(samples)))

    def hear(self, frame: bytes) -> None:
        """Notices when the other side talks."""
        self._acts.heard(self._frame, self._turns.feed(frame))
        self._turns.forget()

    def sent(self, audible: bool) -> None:
        """Waits for nothing."""

    async def aclose(self) -> None:
        """Holds nothing."""
