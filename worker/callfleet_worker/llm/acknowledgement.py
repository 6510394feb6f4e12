"""A short acknowledgement worded by the model, let through only by a guard and before a deadline."""

from __future__ import annotations

import re

from callfleet_worker.answers.words import words_of
from callfleet_worker.llm.client import LlmUnavailableError
from callfleet_worker.llm.opinion import AsksModel

MAX_WORDS = 12
MAX_TOKENS = 24
_SYSTEM = (
    "You are a polite phone agent. Acknowledge the person's answer in one short sentence of at most ten words. "
    "Do not ask anything, promise anything, or add facts."
)
_PLAIN = re.compile(r"^[A-Za-z][A-Za-z0-9 ,.'!-]*$")
_FORBIDDEN = re.compile(
    r"\b(?:guarantee\w*|promise\w*|free|discount|offer\w*|price|cost|legal|lawyer|loan|rate|deal|sorry|unfortunately|"
    r"cannot|can't|call you|send you|email|visit|schedule|agent|user|answer|question|sentence|assistant|ai|please|"
    r"i am|i'm|i'll|we'll|we will|i will|i have|i've|we have)\b",
    re.IGNORECASE,
)


def guarded(text: str, heard: str) -> str | None:
    """The model's words when they are safe to say aloud, else nothing.

    Safe means one plain sentence of at most 12 words that asks and promises nothing and names no number but theirs.
    """
    line = text.strip().strip('"').strip()
    count = len(words_of(line))
    if not 1 <= count <= MAX_WORDS or not _PLAIN.match(line) or _FORBIDDEN.search(line):
        return None
    if len([part for part in re.split(r"[.!]", line) if part.strip()]) != 1:
        return None
    said = set(words_of(heard))
    if any(word not in said for word in words_of(line) if any(character.isdigit() for character in word)):
        return None
    return line if line[-1] in ".!" else f"{line}."


async def word_acknowledgement(model: AsksModel, question: str, heard: str, *, deadline_s: float) -> str | None:
    """An acknowledgement of what was heard, or nothing when the model is late, absent or out of bounds."""
    prompt = f'You asked: "{question}"\nThey said: "{heard}"\nYour acknowledgement:'
    try:
        text = await model.ask(_SYSTEM, prompt, deadline_s=deadline_s, max_tokens=MAX_TOKENS)
    except LlmUnavailableError:
        return None
    return guarded(text, heard)
