"""Whisper's habit of saying a short utterance twice when its window is short."""

from __future__ import annotations

import re

MIN_REPEATED_WORDS = 3


def stutters(text: str) -> bool:
    """True when the text says itself twice, or any three or more words twice in a row: the decoder's habit."""
    words = re.findall(r"[\w'$]+", text.lower().replace(",", " "))
    for size in range(1, len(words) // 2 + 1):
        if size < MIN_REPEATED_WORDS and size * 2 != len(words):
            continue
        if any(words[at : at + size] == words[at + size : at + 2 * size] for at in range(len(words) - 2 * size + 1)):
            return True
    return False
