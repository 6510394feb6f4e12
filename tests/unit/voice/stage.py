"""A conversation on a pipeline without a line: the test is the person, and the carrier that plays what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipecat.frames.frames import Frame, InterruptionFrame, UserStartedSpeakingFrame, UserStoppedSpeakingFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner
from tests.unit.agents.scripts import plan_of

from callfleet_worker.agents.graph import Team
from callfleet_worker.agents.state import CallState
from callfleet_worker.llm.opinion import AsksModel
from callfleet_worker.speech.clients import Speaker
from callfleet_worker.speech.serving import UnixServer
from callfleet_worker.voice.conversation import Conversation
from callfleet_worker.voice.frames import MarkFrame, SayFrame, SustainedSpeechFrame, UtteranceFrame
from callfleet_worker.voice.transcript import AgentTurn, UserTurn
from callfleet_worker.voice.turn_clock import TurnClock
from callfleet_worker.voice.turns import Timings

FAST = Timings(greeting_wait_s=0.1, greeting_length_s=0.4, silence_s=0.3, mark_grace_s=0.2)
MS_PER_CHARACTER = 4


class Notes:
    """The transcript, kept in a list."""

    def __init__(self) -> None:
        self.turns: list[UserTurn | AgentTurn] = []
        self.states: list[CallState] = []

    def add(self, turn: UserTurn | AgentTurn) -> None:
        self.turns.append(turn)

    def keep(self, state: CallState) -> None:
        self.states.append(state)


class Line(FrameProcessor):
    """Plays what is said, a few ms a character, and returns marks when they are reached."""

    def __init__(self, clock: TurnClock) -> None:
        super().__init__()
        self._clock = clock
        self.said: list[str] = []
        self.cleared = 0
        self.deaf_to_marks = False
        self._ends_at = 0.0
        self._playing: list[asyncio.Task[None]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        now = asyncio.get_running_loop().time()
        if isinstance(frame, SayFrame):
            if frame.text:
                self._clock.media_written()
                self.said.append(frame.text)
                self._ends_at = max(self._ends_at, now) + len(frame.text) * MS_PER_CHARACTER / 1000
            elif frame.mark is not None and not self.deaf_to_marks:
                self._playing.append(self.create_task(self._reach(frame.mark, self._ends_at - now)))
            return
        if isinstance(frame, InterruptionFrame):
            self.cleared += 1
            for task in self._playing:
                await self.cancel_task(task)
            self._playing, self._ends_at = [], 0.0
        await self.push_frame(frame, direction)

    async def _reach(self, mark: str, after_s: float) -> None:
        await asyncio.sleep(max(0.0, after_s))
        await self.push_frame(MarkFrame(mark=mark), FrameDirection.UPSTREAM)


class Person:
    """What the test does and sees."""

    def __init__(self, worker: PipelineWorker, talk: Conversation, line: Line, notes: Notes) -> None:
        self._worker, self.talk, self.line, self.notes = worker, talk, line, notes
        self.over = asyncio.Event()

    async def starts(self) -> None:
        await self._worker.queue_frame(UserStartedSpeakingFrame())

    async def goes_on(self) -> None:
        await self._worker.queue_frame(SustainedSpeechFrame())

    async def says(self, text: str) -> None:
        """A whole utterance, ended."""
        now = asyncio.get_running_loop().time()
        await self._worker.queue_frame(UserStoppedSpeakingFrame())
        await self._worker.queue_frame(
            UtteranceFrame(text, "person", "", last_voice_at=now, began_at=now - 0.5, speech_ms=500)
        )

    async def hears(self, text: str, timeout_s: float = 3.0) -> None:
        """Waits until a clause with these words was begun after everything heard before."""
        async with asyncio.timeout(timeout_s):
            while not any(text in said for said in self.line.said):  # noqa: ASYNC110 - nothing to wait on but the line
                await asyncio.sleep(0.005)
        self.line.said.clear()

    async def may_speak(self) -> None:
        """Waits until it is the person's turn."""
        async with asyncio.timeout(3.0):
            while self.talk.phase != "listening":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)

    def user_turns(self) -> list[UserTurn]:
        return [turn for turn in self.notes.turns if isinstance(turn, UserTurn)]


def _voice(header: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
    return {}, bytes(16 * MS_PER_CHARACTER * len(header["text"]))


@asynccontextmanager
async def conversation(folder: Path, timings: Timings = FAST, model: AsksModel | None = None) -> AsyncIterator[Person]:
    """A conversation under way, with a voice whose phrases are as long as their text."""
    server = UnixServer(folder / "v", _voice, threads=1)
    serving = asyncio.create_task(server.run_until_stopped())
    speaker = Speaker(folder / "v")
    plan = plan_of()
    while not await speaker.prepare(plan.book.opening):  # noqa: ASYNC110 - until the socket is there
        await asyncio.sleep(0.01)
    await speaker.prepare_all(plan.book.texts())
    clock, notes = TurnClock(asyncio.get_running_loop().time), Notes()
    people: list[Person] = []

    async def finished() -> None:
        people[0].over.set()

    talk = Conversation(Team(plan, model, speaker.prepare), speaker, clock, notes, finished, timings)
    line = Line(clock)
    worker = PipelineWorker(
        Pipeline([talk, line]), cancel_on_idle_timeout=False, idle_timeout_secs=None, enable_rtvi=False
    )
    people.append(Person(worker, talk, line, notes))
    runner = WorkerRunner(handle_sigint=False, handle_sigterm=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield people[0]
    finally:
        await worker.cancel()
        await running
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
