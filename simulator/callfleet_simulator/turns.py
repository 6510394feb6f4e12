"""When did the other side stop talking? Energy in 20 ms frames, and silence long enough to be an end."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import numpy as np

from callfleet_simulator.audio import FRAME_MS, SAMPLE_RATE, Pcm, from_mulaw, level, rms

END_SILENCE_MS = 700
LEAD_MS = 200
MIN_SPEECH_MS = 80
MAX_TURN_MS = 25_000
SPEECH_RMS = level(-45.0)


class Sound(Enum):
    """What a frame changed."""

    NOTHING = auto()
    STARTED = auto()
    ENDED = auto()


class Turns:
    """Feed frames; `take` what was said once a turn has ended."""

    def __init__(self) -> None:
        self._kept: deque[Pcm] = deque(maxlen=MAX_TURN_MS // FRAME_MS)
        self._lead: deque[Pcm] = deque(maxlen=LEAD_MS // FRAME_MS)
        self._speech_ms = 0
        self._silence_ms = 0
        self.speaking = False

    def feed(self, frame: bytes) -> Sound:
        """Takes 20 ms of μ-law."""
        pcm = from_mulaw(frame)
        loud = rms(pcm) > SPEECH_RMS
        if not self.speaking:
            self._lead.append(pcm)
            self._speech_ms = self._speech_ms + FRAME_MS if loud else 0
            if self._speech_ms < MIN_SPEECH_MS:
                return Sound.NOTHING
            self.speaking, self._silence_ms = True, 0
            self._kept.extend(self._lead)
            self._lead.clear()
            return Sound.STARTED
        self._kept.append(pcm)
        self._silence_ms = 0 if loud else self._silence_ms + FRAME_MS
        if self._silence_ms < END_SILENCE_MS:
            return Sound.NOTHING
        self.speaking, self._speech_ms = False, 0
        return Sound.ENDED

    def heard(self) -> Pcm:
        """Everything kept since the last `forget`, at most 25 s of it."""
        return np.concatenate(list(self._kept)) if self._kept else np.zeros(0, dtype=np.int16)

    def forget(self) -> None:
        """What was heard has been answered."""
        self._kept.clear()

    @property
    def heard_s(self) -> float:
        """How much is kept."""
        return sum(len(pcm) for pcm in self._kept) / SAMPLE_RATE
