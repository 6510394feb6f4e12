"""Free text: whatever was said, when it says something."""

from __future__ import annotations

from callfleet_worker.answers.words import Answer, is_unsure, tidy, words_of

MAX_TEXT_CHARACTERS = 500


def parse_text(text: str) -> Answer | None:
    """The words themselves, at most 500 characters; nothing when empty or only "I don't know"."""
    heard = tidy(text)
    words = words_of(heard)
    if not words or (is_unsure(heard) and len(words) <= 5):
        return None
    return Answer(heard[:MAX_TEXT_CHARACTERS], 0.9, heard)
