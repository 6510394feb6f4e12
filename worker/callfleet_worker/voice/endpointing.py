"""When has somebody finished? Pure bookkeeping of voice and silence, in milliseconds of audio."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

DECODE_AFTER_MS = 160
"""Silence after which the utterance so far is decoded, on suspicion."""
COMPLETE_MS = 240
"""Silence that ends a turn whose text already answers the pending question."""
NEUTRAL_MS = 480
HESITANT_MS = 1_100
"""Silence after "um", a conjunction or an unfinished number."""
SUSTAINED_MS = 500
MAX_UTTERANCE_MS = 20_000
MIN_SPEECH_MS = 90

_TRAILING = re.compile(r"(?:\.\.\.|\u2026|-|,|\b(?:um+|uh+|er+m?|and|or|but|so|because|between))[.\s]*$", re.IGNORECASE)
_UNFINISHED = re.compile(
    r"\b(?:like|well|maybe|about|around|the|a|an|to|of|in|for|with|my|i|i'm|we|we're|it's|is|let me (?:see|think)|"
    r"i (?:think|guess|mean))[.\s]*$",
    re.IGNORECASE,
)


class Step(StrEnum):
    """What a chunk of audio changed."""

    NOTHING = "nothing"
    STARTED = "started"
    SUSTAINED = "sustained"
    PAUSED = "paused"
    RESUMED = "resumed"
    TOO_LONG = "tooLong"


def patience_ms(text: str, *, answers: bool) -> int:
    """How much silence ends a turn with this text; `answers` says that it answers what was asked."""
    if _TRAILING.search(text) or (not answers and _UNFINISHED.search(text)):
        return HESITANT_MS
    return COMPLETE_MS if answers else NEUTRAL_MS


@dataclass
class Endpointer:
    """Follows one utterance at a time; `silence_ms` counts since its last voiced chunk."""

    active: bool = False
    paused: bool = False
    sustained: bool = False
    cut: bool = False
    speech_ms: int = 0
    silence_ms: int = 0
    total_ms: int = 0

    def step(self, voiced: bool, chunk_ms: int) -> Step:
        """Takes one chunk."""
        if not self.active:
            return self._start(chunk_ms) if voiced else Step.NOTHING
        self.total_ms += chunk_ms
        if voiced:
            return self._voice(chunk_ms)
        self.silence_ms += chunk_ms
        if not self.paused and self.silence_ms >= DECODE_AFTER_MS:
            self.paused = True
            return Step.PAUSED
        return Step.NOTHING

    def reset(self) -> None:
        """The utterance is over."""
        self.active = self.paused = self.sustained = self.cut = False
        self.speech_ms = self.silence_ms = self.total_ms = 0

    def _start(self, chunk_ms: int) -> Step:
        self.reset()
        self.active = True
        self.speech_ms = self.total_ms = chunk_ms
        return Step.STARTED

    def _voice(self, chunk_ms: int) -> Step:
        self.speech_ms += chunk_ms
        self.silence_ms = 0
        if self.paused:
            self.paused = False
            return Step.RESUMED
        if not self.cut and self.total_ms >= MAX_UTTERANCE_MS:
            self.cut = True
            return Step.TOO_LONG
        if not self.sustained and self.speech_ms >= SUSTAINED_MS:
            self.sustained = True
            return Step.SUSTAINED
        return Step.NOTHING
