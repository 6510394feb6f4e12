"""A short acknowledgement worded by the model, let through only by a guard and before a deadline."""

from __future__ import annotations

import re

from callfleet_worker.answers.words import words_of
from callfleet_worker.llm.client import Example, LlmUnavailableError
from callfleet_worker.llm.opinion import AsksModel

MAX_WORDS = 12
MAX_TOKENS = 16
_SYSTEM = "Acknowledge the answer in a few words."
_EXAMPLES = (
    Example("Do you have a garden? No, we live in a flat.", "Okay, no garden."),
    Example("How many children do you have? Two girls.", "Two girls, how nice."),
    Example("When would be a good time? Tuesday afternoon is best.", "Tuesday afternoon, noted."),
    Example("Do you like the area? Yes, very much.", "Good to hear that."),
)
_FIRST_SENTENCE = re.compile(r"^([^.!?]*[.!?]).*$", re.DOTALL)
_KIND = re.compile(r"\b(?:thank you|(?:i'm|i am) (?:glad|happy|pleased|sorry) to hear (?:that|it))\b", re.IGNORECASE)
_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9 ,.'!-]*$")
_FORBIDDEN = re.compile(
    r"\b(?:guarantee\w*|promise\w*|free|discount|offer\w*|price|cost|legal|lawyer|loan|rate|deal|sorry|unfortunately|"
    r"cannot|can't|call|send|email|visit|schedule|agent|user|answer|question|sentence|assistant|ai|please|will|"
    r"i|i'm|i'd|i'll|i've|me|my|we|we'll|we're|us|our|you|you're|your|he|she|they)\b",
    re.IGNORECASE,
)


def guarded(text: str, heard: str) -> str | None:
    """The model's first sentence when it is safe to say aloud, else nothing.

    Safe means one plain sentence of at most 12 words that asks and promises nothing, is about nobody, and names no
    number but the person's.
    """
    line = _FIRST_SENTENCE.sub(r"\1", text.strip().strip('"').strip())
    if not 1 <= len(words_of(line)) <= MAX_WORDS or not _PLAIN.match(line) or _FORBIDDEN.search(_KIND.sub("", line)):
        return None
    said = set(words_of(heard))
    if any(word not in said for word in words_of(line) if any(character.isdigit() for character in word)):
        return None
    return line if line[-1] in ".!" else f"{line}."


async def word_acknowledgement(model: AsksModel, question: str, heard: str, *, deadline_s: float) -> str | None:
    """An acknowledgement of what was heard, or nothing when the model is late, absent or out of bounds."""
    try:
        text = await model.ask(
            _SYSTEM,
            f"{question} {heard}",
            deadline_s=deadline_s,
            max_tokens=MAX_TOKENS,
            examples=_EXAMPLES,
            stop="\n",
        )
    except LlmUnavailableError:
        return None
    return guarded(text, heard)
