"""Speaking: clauses become audio, from the call's phrases when they are ready, from Piper otherwise."""

from __future__ import annotations

from typing import Protocol

import structlog
from pipecat.frames.frames import (
    Frame,
    OutputTransportMessageFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from callfleet_worker.speech.audio import TELEPHONE_RATE
from callfleet_worker.speech.clients import SpeechError
from callfleet_worker.voice.frames import SayFrame
from callfleet_worker.voice.serializer import CallSerializer

_log = structlog.get_logger(__name__)


class Speaks(Protocol):
    """The voice, as speaking needs it."""

    async def speak(self, text: str, *, deadline_s: float = 10.0) -> bytes:
        """PCM16 mono at 8 kHz."""
        ...


class Speaking(FrameProcessor):
    """Turns SayFrames into audio and marks; counts the characters it spoke."""

    def __init__(self, voice: Speaks, serializer: CallSerializer) -> None:
        super().__init__()
        self._voice, self._serializer = voice, serializer
        self.characters = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Speaks SayFrames in order; an interruption drops what is queued. Passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, SayFrame):
            await self._say(frame)
        else:
            await self.push_frame(frame, direction)

    async def _say(self, frame: SayFrame) -> None:
        try:
            audio = await self._voice.speak(frame.text) if frame.text else b""
        except SpeechError as error:
            # The mark still goes out, so that the conversation goes on instead of waiting for a voice that is gone.
            _log.error("a clause could not be spoken", error=str(error))
            audio = b""
        if audio:
            self.characters += len(frame.text)
            pause = bytes(2 * (TELEPHONE_RATE * frame.pause_ms // 1000))
            await self.push_frame(TTSStartedFrame())
            await self.push_frame(TTSAudioRawFrame(audio + pause, sample_rate=TELEPHONE_RATE, num_channels=1))
            await self.push_frame(TTSStoppedFrame())
        if frame.mark is not None:
            await self.push_frame(OutputTransportMessageFrame(message=self._serializer.mark(frame.mark)))
