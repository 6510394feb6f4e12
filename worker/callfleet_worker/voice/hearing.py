"""Hearing: voice activity, the end of a turn, and Whisper's words for it, as one pipecat processor.

The decode starts on suspicion, after 160 ms of silence, and is dropped when the person goes on. The turn ends when
the silence has lasted as long as the words ask for: little where they answer the question, much after "um".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, cast

import structlog
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from callfleet_worker.speech.audio import SPEECH_BELOW_PEAK_DB, level_db
from callfleet_worker.speech.clients import Heard, SpeechError
from callfleet_worker.voice.endpointing import MIN_SPEECH_MS, Endpointer, Step, patience_ms
from callfleet_worker.voice.frames import SustainedSpeechFrame, UtteranceFrame
from callfleet_worker.voice.serializer import RECEIVED_AT

RATE = 16_000
CHUNK_MS = 20
PRE_ROLL_MS = 300
TAIL_MS = 200
NOISE_MARGIN_DB = 6.0
VAD = VADParams(confidence=0.6, start_secs=0.1, stop_secs=0.8, min_volume=0.5)

_log = structlog.get_logger(__name__)


class Decodes(Protocol):
    """The recogniser, as hearing needs it."""

    async def decode(self, pcm16k: bytes, *, hint: str = "", deadline_s: float = 8.0) -> Heard:
        """See `callfleet_worker.speech.clients.Recogniser`."""
        ...


class Expects(Protocol):
    """What the conversation knows about the answer it waits for."""

    def hint(self) -> str:
        """What was just asked."""
        ...

    def is_answer(self, text: str) -> bool:
        """Whether these words answer it."""
        ...


@dataclass
class _Utterance:
    """The chunks of one utterance with their levels and arrival times."""

    chunks: list[bytes] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)

    def add(self, chunk: bytes, received_at: float) -> None:
        self.chunks.append(chunk)
        self.levels.append(level_db(chunk))
        self.received.append(received_at)

    def last_voice(self, noise_db: float) -> int:
        """Index of the last chunk that is within 40 dB of the loudest and above the line's noise."""
        floor = max(max(self.levels) - SPEECH_BELOW_PEAK_DB, noise_db + NOISE_MARGIN_DB)
        return max((index for index, level in enumerate(self.levels) if level >= floor), default=len(self.levels) - 1)

    def pcm(self, until: int) -> bytes:
        return b"".join(self.chunks[: until + 1 + TAIL_MS // CHUNK_MS])


class Hearing(FrameProcessor):
    """Turns the line's audio into UtteranceFrames."""

    def __init__(
        self, vad: VADAnalyzer, recogniser: Decodes, expects: Expects, now: Callable[[], float] | None = None
    ) -> None:
        super().__init__()
        self._vad, self._recogniser, self._expects = vad, recogniser, expects
        self._now = now or asyncio.get_running_loop().time
        self._vad.set_sample_rate(RATE)
        self._vad.set_params(VAD)
        self._ends = Endpointer()
        self._before: deque[tuple[bytes, float]] = deque(maxlen=PRE_ROLL_MS // CHUNK_MS)
        self._noise_db = -60.0
        self._utterance = _Utterance()
        self._decoding: asyncio.Task[None] | None = None
        self._decoded: tuple[Heard, int] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Consumes audio; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            await self._hear(frame)
            return
        if isinstance(frame, EndFrame | CancelFrame):
            await self._drop_decode()
            await cast("Callable[[], Awaitable[None]]", self._vad.cleanup)()
        await self.push_frame(frame, direction)

    async def _hear(self, frame: InputAudioRawFrame) -> None:
        received_at = float(frame.metadata.get(RECEIVED_AT, self._now()))
        state = await self._vad.analyze_audio(frame.audio)
        voiced = state is VADState.SPEAKING
        chunk_ms = len(frame.audio) * 1000 // (2 * RATE)
        if self._ends.active:
            self._utterance.add(frame.audio, received_at)
        else:
            self._before.append((frame.audio, received_at))
            if state is VADState.QUIET:
                self._noise_db += 0.05 * (level_db(frame.audio) - self._noise_db)
        await self._follow(self._ends.step(voiced, chunk_ms))
        await self._maybe_commit()

    async def _follow(self, step: Step) -> None:
        match step:
            case Step.STARTED:
                self._utterance = _Utterance()
                for chunk, received_at in self._before:
                    self._utterance.add(chunk, received_at)
                self._before.clear()
                await self.push_frame(UserStartedSpeakingFrame())
            case Step.SUSTAINED:
                await self.push_frame(SustainedSpeechFrame())
            case Step.PAUSED | Step.TOO_LONG:
                await self._drop_decode()
                self._decoding = self.create_task(self._decode(forced=step is Step.TOO_LONG))
            case Step.RESUMED:
                await self._drop_decode()
            case Step.NOTHING:
                pass

    async def _decode(self, *, forced: bool) -> None:
        started = self._now()
        heard = await self._recognise()
        self._decoded = (heard, round((self._now() - started) * 1000))
        if forced:
            await self._commit()
        else:
            await self._maybe_commit()

    async def _recognise(self) -> Heard:
        pcm = self._utterance.pcm(self._utterance.last_voice(self._noise_db))
        try:
            return await self._recogniser.decode(pcm, hint=self._expects.hint())
        except SpeechError as error:
            _log.warning("an utterance could not be decoded", error=str(error))
            return Heard(text="", avg_logprob=-9.0, no_speech_prob=0.0, language="", audio_s=0.0, window="none")

    async def _maybe_commit(self) -> None:
        if self._decoded is None or not self._ends.active:
            return
        text = self._decoded[0].text
        if self._ends.silence_ms >= patience_ms(text, answers=self._expects.is_answer(text)):
            await self._commit()

    async def _commit(self) -> None:
        if self._decoded is None:
            return
        (heard, decode_ms), self._decoded = self._decoded, None
        speech_ms = self._ends.speech_ms
        last = self._utterance.last_voice(self._noise_db)
        frame = UtteranceFrame(
            heard.text,
            "person",
            datetime.now(UTC).isoformat(),
            result=heard,
            finalized=True,
            last_voice_at=self._utterance.received[last],
            began_at=self._utterance.received[0],
            speech_ms=speech_ms,
            decode_ms=decode_ms,
        )
        self._ends.reset()
        await self.push_frame(UserStoppedSpeakingFrame())
        if heard.text or speech_ms >= 4 * MIN_SPEECH_MS:
            await self.push_frame(frame)

    async def last_words(self) -> str:
        """The words of an utterance that nothing follows, for the line is dead; "" where there is none."""
        if not self._ends.active:
            return ""
        if self._decoded is not None:
            return self._decoded[0].text
        await self._drop_decode()
        return (await self._recognise()).text

    async def _drop_decode(self) -> None:
        self._decoded = None
        if self._decoding is not None and not self._decoding.done():
            await self.cancel_task(self._decoding)
        self._decoding = None
