"""The pipecat pipeline of one call, from its media socket and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from fastapi import WebSocket
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner

from callfleet_worker.agents.graph import Team
from callfleet_worker.speech.audio import TELEPHONE_RATE
from callfleet_worker.speech.clients import Recogniser, Speaker
from callfleet_worker.voice.conversation import Conversation
from callfleet_worker.voice.hearing import RATE, Hearing
from callfleet_worker.voice.serializer import CallSerializer
from callfleet_worker.voice.speaking import Speaking
from callfleet_worker.voice.transcript import Transcript
from callfleet_worker.voice.transport import CallTransport
from callfleet_worker.voice.turn_clock import TurnClock
from callfleet_worker.voice.wishes import WishfulRecogniser

GOODBYE_BEFORE_LIMIT_S = 12.0
HARD_STOP_BEFORE_LIMIT_S = 1.0
LAST_WORDS_WITHIN_S = 10.0
"""More than a decode may take (DECODE_DEADLINE_S): a wish not to be called is worth the slot."""

_log = structlog.get_logger(__name__)


class CallPipeline:
    """One call on the line. `run` returns when the conversation is over, the carrier is gone, or the time is up."""

    def __init__(
        self,
        websocket: WebSocket,
        stream_sid: str,
        *,
        team: Team,
        recogniser: Recogniser,
        speaker: Speaker,
        transcript: Transcript,
        hang_up: Callable[[], Awaitable[None]],
    ) -> None:
        clock = TurnClock(asyncio.get_running_loop().time)
        serializer = CallSerializer(stream_sid, clock)
        self._hang_up = hang_up
        self._over = asyncio.Event()
        self.conversation = Conversation(team, speaker, clock, transcript, self._finish)
        self.speaking = Speaking(speaker, serializer)
        self._transport = CallTransport(
            websocket,
            FastAPIWebsocketParams(
                serializer=serializer,
                audio_in_enabled=True,
                audio_out_enabled=True,
                audio_out_10ms_chunks=2,
                add_wav_header=False,
                session_timeout=None,
                allowed_origins=[],
            ),
        )
        self._transport.add_event_handler("on_client_disconnected", self._on_disconnected)
        self._hearing = Hearing(SileroVADAnalyzer(), WishfulRecogniser(recogniser), self.conversation)
        self._worker = PipelineWorker(
            Pipeline(
                [self._transport.input(), self._hearing, self.conversation, self.speaking, self._transport.output()]
            ),
            params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=TELEPHONE_RATE),
            cancel_on_idle_timeout=False,
            cancel_runner_on_idle_timeout=False,
            idle_timeout_secs=None,
            enable_rtvi=False,
            enable_turn_tracking=False,
        )

    async def run(self, time_limit_s: float) -> None:
        """Talks for at most `time_limit_s`, then hangs up and closes the socket."""
        runner = WorkerRunner(handle_sigint=False, handle_sigterm=False)
        await runner.add_workers(self._worker)
        running = asyncio.ensure_future(runner.run())
        over = asyncio.ensure_future(self._over.wait())
        loop = asyncio.get_running_loop()
        goodbye = loop.call_later(max(1.0, time_limit_s - GOODBYE_BEFORE_LIMIT_S), self.conversation.time_up)
        try:
            limit_s = max(1.0, time_limit_s - HARD_STOP_BEFORE_LIMIT_S)
            await asyncio.wait({running, over}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            await self._hang_up()
            await self._hear_last_words()
        finally:
            goodbye.cancel()
            over.cancel()
            await self._worker.cancel(reason="the call is over")
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _hear_last_words(self) -> None:
        """People say "stop calling me" and hang up: what was on the line by then is heard to its end."""
        words = ""
        try:
            async with asyncio.timeout(LAST_WORDS_WITHIN_S):
                words = await self._hearing.last_words()
        except TimeoutError:
            _log.warning("the last words of a call could not be heard in time", within_s=LAST_WORDS_WITHIN_S)
        self.conversation.hung_up(words)

    def end(self) -> None:
        """Ends the call now, whatever is being said."""
        self._over.set()

    async def _finish(self) -> None:
        self._over.set()

    async def _on_disconnected(self, _transport: CallTransport, _websocket: WebSocket) -> None:
        self._over.set()
