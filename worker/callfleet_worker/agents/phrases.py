"""Every sentence a call can say, drawn once from the script and our templates, so that it can be spoken beforehand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from uuid import UUID

from callfleet_core.script import CallScript, Question

_ACKS = {
    "yes": ("Great.", "Good to hear.", "Wonderful."),
    "no": ("Okay, I understand.", "Alright.", "That's fine."),
    "value": ("Got it.", "Thank you.", "Okay, thanks."),
}
_NOT_CAUGHT = ("Sorry, I didn't catch that.", "I'm sorry, I missed that.")
_NAME = re.compile(r",?\s*\{name\}")

STILL_THERE = "Are you still there?"
MOVE_ON = "Alright, let's move on."
TAKE_YOUR_TIME = "Sure, take your time."
LET_ME_REPEAT = "Of course."
FILLER = "Let me see."
OPTED_OUT = "I understand. I will take you off our list. Goodbye."
WRONG_PERSON = "I'm sorry to have bothered you. Goodbye."
BUSY = "No problem, we can talk another time. Goodbye."
NOT_INTERESTED = "I understand. Thank you for your time. Goodbye."
GOODBYE = "Thank you for your time. Goodbye."


class Phrasebook:
    """The call's wording: variants are drawn once, by the attempt's id, so that a repeated run says the same."""

    def __init__(self, script: CallScript, attempt_id: UUID, contact_name: str | None) -> None:
        self._name = contact_name
        draw = random.Random(attempt_id.int)  # noqa: S311 - wording, not a secret
        self.opening = self._named(script.opening)
        self.closing = self._named(script.closing)
        self._asks = {question.name: self._named(draw.choice(question.ask)) for question in script.questions}
        self._reasks = {question.name: self._again(question, draw) for question in script.questions}
        self._acks = {kind: draw.sample(options, len(options)) for kind, options in _ACKS.items()}

    def ask(self, question: Question) -> str:
        """How this call asks the question the first time."""
        return self._asks[question.name]

    def ask_again(self, question: Question, times_asked: int) -> str:
        """How it is asked when the answer was not understood."""
        options = self._reasks[question.name]
        return options[(times_asked - 1) % len(options)]

    def acknowledge(self, value: str, count: int) -> str:
        """A short acknowledgement of an answer; never the same twice in a row."""
        options = self._acks[value if value in ("yes", "no") else "value"]
        return options[count % len(options)]

    def texts(self) -> Iterator[str]:
        """Everything this call can say from templates, in the order it may be needed."""
        asks = list(self._asks.values())
        yield self.opening
        yield from asks[:1]
        for options in self._acks.values():
            yield from options
        yield from asks[1:]
        yield from (STILL_THERE, LET_ME_REPEAT, FILLER, TAKE_YOUR_TIME, MOVE_ON)
        yield self.closing
        for options in self._reasks.values():
            yield from options
        yield from (OPTED_OUT, WRONG_PERSON, BUSY, NOT_INTERESTED, GOODBYE)

    def _again(self, question: Question, draw: random.Random) -> list[str]:
        if question.reask:
            return [self._named(line) for line in draw.sample(question.reask, len(question.reask))]
        return [f"{sorry} {self._asks[question.name]}" for sorry in _NOT_CAUGHT]

    def _named(self, line: str) -> str:
        if self._name:
            return line.replace("{name}", self._name)
        return _NAME.sub("", line)
