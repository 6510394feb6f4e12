"""A person on the line who listens, thinks and talks. Time is counted in frames of 20 ms."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import numpy as np
import structlog

from callfleet_simulator.acts import Acts, Keypad
from callfleet_simulator.audio import FRAME_MS, FRAME_SAMPLES, Pcm
from callfleet_simulator.calls import Call
from callfleet_simulator.errors import SpeechError
from callfleet_simulator.mind import Mind, Reply, phrases
from callfleet_simulator.people import Act, Person, Voice
from callfleet_simulator.tones import silence
from callfleet_simulator.turns import Sound, Turns

log = structlog.get_logger(__name__)

CONFUSED_AFTER_S = 3.0  # a statement is not a question: wait whether more comes before asking back
LINGER_S = 0.6  # between the last word and the click
STILL_THERE = Reply("Hello? Are you still there?")
MAX_STILL_THERE = 2


Thought = Callable[[], Awaitable[None]]


class SpeechPort(Protocol):
    """What a person needs to speak and to understand."""

    async def words(self, heard: Pcm) -> str:
        """What was said."""

    async def line(self, text: str, voice: Voice) -> Pcm:
        """The line, spoken."""


def frames(seconds: float) -> int:
    """How many frames so many seconds are."""
    return round(seconds * 1000 / FRAME_MS)


class TalkingPerson:
    """A far end (`far_end.FarEnd`) with a mind of its own."""

    def __init__(self, call: Call, person: Person, mind: Mind, speech: SpeechPort, draw: random.Random) -> None:
        self.hung_up = asyncio.Event()
        self._call = call
        self._person = person
        self._mind = mind
        self._speech = speech
        self._draw = draw
        self._turns = Turns()
        self._acts = Acts(person.acts)
        self._keypad = Keypad(call)
        self._frame = 0
        self._quiet_since = 0
        self._still_there = 0
        self._mouth: Pcm | None = None
        self._position = 0
        self._ends_at: int | None = None
        self._ends = False
        self._lingers_s = LINGER_S
        self._thinking: asyncio.Task[None] | None = None
        self._spoke_until: float | None = None
        self._cut_in = False

    # What the carrier calls every 20 ms

    def speak(self) -> Pcm | None:
        """The next 20 ms of what they say."""
        self._frame += 1
        if self._frame == 1 and self._person.greeting is not None:
            self._think(partial(self._say, Reply(self._person.greeting), frames(self._person.answer_after_s)))
        for act in self._acts.due(self._frame):
            self._do(act)
        if self._over():
            self.hung_up.set()
            return None
        self._mind_the_silence()
        return self._next_samples()

    def hear(self, frame: bytes) -> None:
        """20 ms of what the other side says."""
        sound = self._turns.feed(frame)
        self._acts.heard(self._frame, sound)
        if self._turns.speaking:
            self._quiet_since = self._frame
            self._still_there = 0
        if sound is Sound.STARTED and self._mouth is None:
            self._stop_thinking()  # they go on: hear them out, and answer all of it
        elif sound is Sound.ENDED and not self._ends:
            self._think(partial(self._answer, self._frame))

    def sent(self, audible: bool) -> None:
        """Notes how fast the other side replies, and whether it cuts in."""
        if not audible:
            return
        if self._mouth is not None and not self._cut_in:
            self._cut_in = True
            self._call.cut_ins += 1
        elif self._mouth is None and self._spoke_until is not None:
            waited_s = asyncio.get_running_loop().time() - self._spoke_until
            self._call.reply_ms.append(round(waited_s * 1000, 1))
            self._spoke_until = None

    async def aclose(self) -> None:
        """Stops thinking."""
        self._stop_thinking()

    # Time, in frames

    def _over(self) -> bool:
        too_long = self._frame > frames(self._person.max_s)
        return too_long or (self._ends_at is not None and self._frame >= self._ends_at)

    def _mind_the_silence(self) -> None:
        if self._mouth is not None or self._turns.speaking:
            self._quiet_since = self._frame
        if self._frame - self._quiet_since < frames(self._person.patience_s):
            return
        self._quiet_since = self._frame
        self._still_there += 1
        if self._still_there > MAX_STILL_THERE:
            self._ends_at = self._frame
        else:
            self._think(partial(self._say, STILL_THERE, self._frame))

    def _next_samples(self) -> Pcm | None:
        if self._mouth is None:
            self._mouth, self._position = self._keypad.next(), 0
        if self._mouth is None:
            return None
        samples = self._mouth[self._position : self._position + FRAME_SAMPLES]
        self._position += FRAME_SAMPLES
        if self._position >= len(self._mouth):
            self._mouth = None
            self._spoke_until = asyncio.get_running_loop().time()
            if self._ends:
                self._ends_at = self._frame + frames(self._lingers_s)
        return np.pad(samples, (0, FRAME_SAMPLES - len(samples)))

    def _do(self, act: Act) -> None:
        if act.says is not None:
            self._think(partial(self._say, Reply(act.says), self._frame))
        elif act.keys is not None:
            self._keypad.press(act.keys)
        else:
            self._ends_at = self._frame

    async def _until(self, frame: int) -> None:
        while self._frame < frame or self._mouth is not None:  # noqa: ASYNC110 - 50 frames a second need no events
            await asyncio.sleep(FRAME_MS / 1000)

    # Thoughts: at most one at a time

    def _think(self, thought: Thought) -> None:
        self._stop_thinking()
        self._thinking = asyncio.create_task(self._survive(thought))

    def _stop_thinking(self) -> None:
        if self._thinking is not None:
            self._thinking.cancel()
            self._thinking = None

    async def _survive(self, thought: Thought) -> None:
        try:
            await thought()
        except SpeechError as error:  # they stay silent, and ask later who is there, or hang up
            log.error("a person can neither speak nor hear", call_sid=self._call.sid, error=str(error))

    async def _answer(self, ended_at: int) -> None:
        words = await self._speech.words(self._turns.heard())
        reply = self._mind.reply(words)
        if reply is None:
            await self._until(ended_at + frames(CONFUSED_AFTER_S))
            reply = self._mind.confused()
        await self._say(reply, ended_at + frames(self._draw.uniform(*self._person.thinks_s)))

    async def _say(self, reply: Reply, not_before: int) -> None:
        audio = await self._spoken(reply.text)
        await self._until(not_before)
        self._mind.said(reply)
        self._turns.forget()
        self._mouth, self._position, self._ends = audio, 0, reply.ends
        self._cut_in = self._turns.speaking  # who is interrupted has not cut in
        self._keypad.press(reply.keys)
        if reply.cut_short:
            self._mouth, self._lingers_s = audio[: len(audio) // 2], 0.0
        self._spoke_until = None

    async def _spoken(self, text: str) -> Pcm:
        """The line as they say it, with the pauses that it is written with."""
        said: list[Pcm] = []
        for phrase in phrases(text):
            if said:
                said.append(silence(self._draw.uniform(*self._person.hesitates_s)))
            said.append(await self._speech.line(phrase, self._person.voice))
        return np.concatenate(said) if said else silence(0)
