"""The conversation: one actor that takes turns with the person and sends clauses to be spoken.

Frames and timers become events in one queue, handled one after the other. A reply's state is committed when the
person has heard its question (or all of it); a person who speaks on before that is amending the previous answer, so
the turn is taken back and heard as a whole. What ends the call can't be taken back and counts before its goodbye is
heard, for people hang up on goodbyes; the wish not to be called counts at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    StartFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from callfleet_worker.agents.flow import plan_reply, question_named
from callfleet_worker.agents.graph import Team, Turned, TurnKind
from callfleet_worker.agents.interpret import interpret
from callfleet_worker.agents.state import CallState, Disposition, Line, Reply
from callfleet_worker.answers.intents import Intent, find_intent
from callfleet_worker.answers.parse import parse_answer
from callfleet_worker.speech.clients import Speaker
from callfleet_worker.voice.frames import MarkFrame, SayFrame, SustainedSpeechFrame, UtteranceFrame
from callfleet_worker.voice.progress import PAUSE_MS, duration_ms, question_heard
from callfleet_worker.voice.transcript import AgentTurn, Transcript, UserTurn, heard_of, understood_of
from callfleet_worker.voice.turn_clock import TurnClock
from callfleet_worker.voice.turns import Phase, Tick, Timings

HEARD_ENOUGH = 0.5
MAX_EVENTS = 1_000
MAX_RESTARTS = 1

_log = structlog.get_logger(__name__)
# What ends the call at once, whatever was being said.
_STRONG = frozenset({Intent.VOICEMAIL, Intent.OPT_OUT, Intent.WRONG_PERSON})
_OPTED_OUT: Disposition = "optedOut"


class Conversation(FrameProcessor):
    """Runs the team's turns. `finished` is called once, when the last word was heard or the time is up."""

    def __init__(
        self,
        team: Team,
        speaker: Speaker,
        clock: TurnClock,
        transcript: Transcript,
        finished: Callable[[], Awaitable[None]],
        timings: Timings | None = None,
    ) -> None:
        super().__init__()
        self._timings = timings or Timings()
        self._team, self._speaker, self._clock, self._transcript = team, speaker, clock, transcript
        self._finished = finished
        self.state = CallState()
        self.phase = Phase.GREETING
        self._events: asyncio.Queue[Frame | Tick | Turned] = asyncio.Queue(MAX_EVENTS)
        self._actor: asyncio.Task[None] | None = None
        self._turn: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._serial = 0
        self._voice = False
        self._reply: Reply | None = None
        self._lines: list[Line] = []
        self._kind: TurnKind = "start"
        self._heard = ""
        self._carry = ""
        self._restarts = 0
        self._utterance: UtteranceFrame | None = None

    # What hearing asks (see `hearing.Expects`).

    def hint(self) -> str:
        """What was just asked."""
        question = question_named(self._team.plan.script, self._pending())
        if question is None:
            return ""
        numbers = " One, two, three, or four?" if question.type == "Number" else ""
        return self._team.plan.book.ask(question) + numbers

    def is_answer(self, text: str) -> bool:
        """Whether the grammars take these words as the answer that is waited for."""
        question = question_named(self._team.plan.script, self._pending())
        return question is not None and parse_answer(question, text, self._team.plan.today) is not None

    def _pending(self) -> str | None:
        return self._reply.state.pending if self._reply is not None else self.state.pending

    # pipecat's side.

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Takes what concerns the turn-taking; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._actor = self.create_task(self._act())
            self._after("greet", self._timings.greeting_wait_s)
        if isinstance(frame, EndFrame | CancelFrame):
            await self._stop()
        if isinstance(frame, UtteranceFrame | MarkFrame | SustainedSpeechFrame):
            self._post(frame)
            return
        if isinstance(frame, UserStartedSpeakingFrame | UserStoppedSpeakingFrame):
            self._post(frame)
        await self.push_frame(frame, direction)

    def hung_up(self, last_words: str) -> None:
        """Nobody is there any more: what was understood can't be taken back, and the last words count, too."""
        thinking = self._reply is None and self.phase in (Phase.THINKING, Phase.SPEAKING)
        unanswered = self._heard if thinking and self._kind == "heard" else self._carry
        self._commit()
        if not (words := f"{unanswered} {last_words}".strip()):
            return
        self._heed_wish(words)
        if self.state.disposition is None:
            question = question_named(self._team.plan.script, self.state.pending)
            meant = interpret(question, self.state, words, self._team.plan.today)
            if meant.kind in ("answer", "intent"):
                self._become(plan_reply(self._team.plan, self.state, meant).state)
        self._transcript.add(UserTurn(words, "qualifier", {"after_hang_up": True}))

    def time_up(self) -> None:
        """The call's own limit is near: say goodbye now."""
        self._post(Tick("timeUp"))

    def _post(self, event: Frame | Tick | Turned) -> None:
        if self.phase is not Phase.OVER:
            self._events.put_nowait(event)

    def _after(self, kind: str, delay_s: float) -> None:
        self._cancel_timer(kind)
        tick = Tick(kind, self._serial)
        self._timers[kind] = asyncio.get_running_loop().call_later(delay_s, self._post, tick)

    def _cancel_timer(self, kind: str) -> None:
        if timer := self._timers.pop(kind, None):
            timer.cancel()

    async def _stop(self) -> None:
        self.phase = Phase.OVER
        self._clock.give_up()
        for kind in list(self._timers):
            self._cancel_timer(kind)
        for task in (self._turn, self._actor):
            if task is not None and not task.done():
                await self.cancel_task(task)

    # The actor.

    async def _act(self) -> None:
        while True:
            event = await self._events.get()
            match event:
                case UtteranceFrame():
                    await self._on_utterance(event)
                case UserStartedSpeakingFrame():
                    self._voice = True
                    self._cancel_timer("silence")
                case UserStoppedSpeakingFrame():
                    self._voice = False
                    if self.phase is Phase.LISTENING:
                        self._after("silence", self._timings.silence_s)
                case SustainedSpeechFrame():
                    if self.phase in (Phase.SPEAKING, Phase.THINKING):
                        await self._interrupt()
                case MarkFrame():
                    if event.mark == self._mark_name() and self.phase is Phase.SPEAKING:
                        await self._reply_heard()
                case Turned():
                    self._on_turned(event)
                case Tick():
                    await self._on_tick(event)

    async def _on_tick(self, tick: Tick) -> None:
        if tick.kind == "greet" and self.phase is Phase.GREETING:
            if self._voice:
                self._after("greet", self._timings.greeting_length_s)
                self._voice = False
            else:
                self._begin("start")
        elif tick.kind == "silence" and self.phase is Phase.LISTENING and not self._voice:
            self._begin("silence")
        elif tick.kind == "mark" and tick.serial == self._serial and self.phase is Phase.SPEAKING:
            await self._reply_heard()
        elif tick.kind == "failed":
            await self._end()
        elif tick.kind == "timeUp" and not (self._reply is not None and self._reply.hang_up):
            if self.phase in (Phase.SPEAKING, Phase.THINKING):
                await self._interrupt()
            self._begin("timeUp")

    async def _on_utterance(self, utterance: UtteranceFrame) -> None:
        self._utterance = utterance
        self._heed_wish(utterance.text)
        match self.phase:
            case Phase.GREETING:
                self._cancel_timer("greet")
                self._greeted(utterance)
            case Phase.THINKING:
                await self._interrupt()
                self._take(utterance)
            case Phase.SPEAKING:
                await self._on_talk_over(utterance)
            case Phase.LISTENING:
                self._take(utterance)
            case Phase.OVER:
                pass

    async def _on_talk_over(self, utterance: UtteranceFrame) -> None:
        """A short utterance while we speak: an early answer or a strong wish stops us, "mm-hm" does not."""
        if self._stops_us(utterance.text):
            await self._interrupt()
            self._take(utterance)
        else:
            self._note(utterance, {"backchannel": True})

    def _stops_us(self, text: str) -> bool:
        """While a reply is still being made (a filler is spoken), what answers is the question before it."""
        reply = self._reply
        if reply is not None and reply.hang_up:
            return False
        state = self.state if reply is None else reply.state
        question = question_named(self._team.plan.script, state.pending)
        meant = interpret(question, state, text, self._team.plan.today)
        in_time = reply is None or self._question_heard() >= HEARD_ENOUGH
        return meant.intent in _STRONG or (meant.kind == "answer" and in_time)

    def _heed_wish(self, text: str) -> None:
        if find_intent(text) is Intent.OPT_OUT:
            self._become(self.state.model_copy(update={"disposition": _OPTED_OUT}))

    def _greeted(self, utterance: UtteranceFrame) -> None:
        """Their hello answers nothing, unless it is a machine's, or says that we must not call."""
        if find_intent(utterance.text) in _STRONG:
            self._begin("heard", utterance.text)
            return
        self._note(utterance, {"greeting": True})
        self._begin("start")

    def _take(self, utterance: UtteranceFrame) -> None:
        if self._kind == "start" and self._reply is None and self.state.pending is None and self._restart(utterance):
            return
        text = f"{self._carry} {utterance.text}".strip()
        self._carry = ""
        self._begin("heard", text)

    def _restart(self, utterance: UtteranceFrame) -> bool:
        """Somebody who talked over the opening has not heard it: say it again, once, unless they said why."""
        if self._restarts >= MAX_RESTARTS or find_intent(utterance.text) in _STRONG:
            return False
        self._restarts += 1
        self._note(utterance, {"greeting": True})
        self._begin("start")
        return True

    # Turns.

    def _begin(self, kind: TurnKind, heard: str = "") -> None:
        self._serial += 1
        self._kind, self._heard = kind, heard
        self._reply, self._lines = None, []
        self._cancel_timer("silence")
        self.phase = Phase.THINKING
        self._clock.begin_reply()
        self._turn = self.create_task(self._run_turn(kind, heard))

    async def _run_turn(self, kind: TurnKind, heard: str) -> None:
        try:
            await self._speak_turn(kind, heard)
        except Exception:
            self._post(Tick("failed"))
            raise

    async def _speak_turn(self, kind: TurnKind, heard: str) -> None:
        utterance = self._utterance if kind == "heard" else None
        latency = self._clock.expect_reply(utterance.last_voice_at) if utterance is not None else None
        question = self.state.pending
        async for part in self._team.run(kind, self.state, heard):
            if isinstance(part, Line):
                self.phase = Phase.SPEAKING
                self._lines.append(part)
                await self.push_frame(SayFrame(text=part.text, pause_ms=PAUSE_MS[part.kind]))
                continue
            self._reply = part.reply
            if part.reply.hang_up:
                self._become(part.reply.state)
            await self.push_frame(SayFrame(mark=self._mark_name()))
            if utterance is not None:
                self._transcript.add(
                    UserTurn(heard, "qualifier", understood_of(utterance, part.meant, question), latency_ms=latency)
                )
            self._transcript.add(AgentTurn(" ".join(line.text for line in self._lines), self._lines[-1].agent))
            self._post(part)

    def _on_turned(self, turned: Turned) -> None:
        if turned.reply is self._reply and self.phase is Phase.SPEAKING:
            length_ms = sum(duration_ms(line, self._speaker.cached) for line in self._lines)
            self._after("mark", length_ms / 1000 + self._timings.mark_grace_s)

    async def _reply_heard(self) -> None:
        self._cancel_timer("mark")
        self._commit()
        if self.state.disposition is not None:
            await self._end()
            return
        self.phase = Phase.LISTENING
        if not self._voice:
            self._after("silence", self._timings.silence_s)

    async def _end(self) -> None:
        self.phase = Phase.OVER
        await self._finished()

    def _commit(self) -> None:
        if self._reply is not None:
            reply, self._reply = self._reply, None
            self._carry = ""
            self._become(reply.state)

    def _become(self, state: CallState) -> None:
        """The state from now on; a wish not to be called outlives whatever is said after it."""
        wished = _OPTED_OUT in (state.disposition, self.state.disposition)
        self.state = state.model_copy(update={"disposition": _OPTED_OUT}) if wished else state
        self._transcript.keep(self.state)

    async def _interrupt(self) -> None:
        """Stops speaking; takes the turn back when its question was hardly heard."""
        if self._reply is not None and self._reply.hang_up:
            return
        heard_enough = self._question_heard() >= HEARD_ENOUGH
        if self._turn is not None and not self._turn.done():
            await self.cancel_task(self._turn)
        self._cancel_timer("mark")
        self._clock.give_up()
        if heard_enough:
            self._commit()
        else:
            self._reply = None
            self._carry = self._heard if self._kind == "heard" else ""
        self.phase = Phase.LISTENING
        await cast("Callable[[], Awaitable[None]]", self.broadcast_interruption)()

    def _question_heard(self) -> float:
        if self._reply is None or self._clock.first_written_at is None:
            return 0.0
        elapsed_ms = (self._clock.now() - self._clock.first_written_at) * 1000
        return question_heard(self._lines, self._speaker.cached, elapsed_ms)

    def _mark_name(self) -> str:
        return f"reply-{self._serial}"

    # The transcript.

    def _note(self, utterance: UtteranceFrame, extra: dict[str, Any]) -> None:
        if utterance.text:
            self._transcript.add(UserTurn(utterance.text, "greeter", {**heard_of(utterance), **extra}))
