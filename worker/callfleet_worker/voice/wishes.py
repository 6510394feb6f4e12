"""Ears for the wish not to be called: what may have been one is decoded once more, with such wishes in mind.

Whisper base hears "Stop calling me" over a telephone as "Start calling me", "Call me" or "If not, call me" in half of
the cases (docs/decisions/0032). With the wishes as the decoder's context it hears them; what is none stays none.
"""

from __future__ import annotations

import asyncio

import structlog

from callfleet_worker.answers.intents import Intent, find_intent, may_be_a_wish
from callfleet_worker.speech.clients import DECODE_DEADLINE_S, Heard, SpeechError
from callfleet_worker.voice.hearing import Decodes

WISHES = "Stop calling me. Don't call me again. Take me off your list."

_log = structlog.get_logger(__name__)


class WishfulRecogniser:
    """A recogniser that listens twice where we may have been asked not to call."""

    def __init__(self, recogniser: Decodes) -> None:
        self._recogniser = recogniser

    async def decode(self, pcm16k: bytes, *, hint: str = "", deadline_s: float = DECODE_DEADLINE_S) -> Heard:
        """What was said in PCM16 mono at 16 kHz; both hearings within `deadline_s`. Raises SpeechError."""
        clock = asyncio.get_running_loop().time
        by = clock() + deadline_s
        first = await self._recogniser.decode(pcm16k, hint=hint, deadline_s=deadline_s)
        if not may_be_a_wish(first.text):
            return first
        try:
            second = await self._recogniser.decode(pcm16k, hint=WISHES, deadline_s=max(0.1, by - clock()))
        except SpeechError as error:
            _log.warning("what may be a wish not to be called was heard once only", error=str(error))
            return first
        return second if find_intent(second.text) is Intent.OPT_OUT else first
