"""What people do unasked: interrupt, press keys, hang up, at a time or in the middle of what the other side says."""

from __future__ import annotations

from collections import deque

from callfleet_simulator import tones
from callfleet_simulator.audio import FRAME_MS, Pcm
from callfleet_simulator.calls import Call
from callfleet_simulator.people import Act
from callfleet_simulator.turns import Sound


class Acts:
    """One person's acts during one call, each done once. Time is counted in frames of 20 ms."""

    def __init__(self, acts: list[Act]) -> None:
        self._waiting = list(acts)
        self._turn = 0
        self._began: int | None = None

    def heard(self, frame: int, sound: Sound) -> None:
        """The other side began or ended a turn; what was to happen during it and did not is forgotten."""
        if sound is Sound.STARTED:
            self._turn, self._began = self._turn + 1, frame
        elif sound is Sound.ENDED:
            self._began = None
            self._waiting = [act for act in self._waiting if act.on_turn is None or act.on_turn > self._turn]

    def due(self, frame: int) -> list[Act]:
        """What is to be done now."""
        due = [act for act in self._waiting if self._is_due(act, frame)]
        self._waiting = [act for act in self._waiting if act not in due]
        return due

    def _is_due(self, act: Act, frame: int) -> bool:
        if act.at_s is not None:
            return frame * FRAME_MS >= act.at_s * 1000
        here = self._began is not None and act.on_turn == self._turn
        return here and (frame - (self._began or 0)) * FRAME_MS >= act.after_s * 1000


class Keypad:
    """Keys that are pressed one after the other: each is told to the carrier, and heard."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._keys: deque[str] = deque()

    def press(self, keys: str) -> None:
        """Presses these, as soon as the earlier ones are done."""
        self._keys.extend(keys)

    def next(self) -> Pcm | None:
        """The next key's sound; None when none waits."""
        if not self._keys:
            return None
        name = self._keys.popleft()
        self._call.pressed.append(name)
        return tones.key(name)
