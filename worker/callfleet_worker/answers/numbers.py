"""Counts: "three", "3 bedrooms", "two or three" (the lower: what the person needs at least)."""

from __future__ import annotations

import re
from decimal import Decimal

from callfleet_worker.answers.words import Answer, last_correction, plain, tidy, with_digits, words_of

MAX_NUMBER = Decimal(1_000_000_000)
_SOUNDS_LIKE = {
    "to": 2,
    "too": 2,
    "tew": 2,
    "for": 4,
    "fore": 4,
    "tree": 3,
    "free": 3,
    "won": 1,
    "ate": 8,
    "sex": 6,
    "tin": 10,
}
_NUMBER = re.compile(r"(?<![\d.$/:])(\d{1,9}(?:\.\d{1,4})?)(?![\d/:]|(?:st|nd|rd|th)\b)")
_NONE = re.compile(r"^(?:none|zero|no(?:ne)? (?:at all|of them)|not any)\b", re.IGNORECASE)
_PRONOUN_ONE = re.compile(
    r"\b(?:no|any|some|every|this|that|which|another|the|either|first|last|next|right|a (?:nice|good|"
    r"big|small|new)) one\b",
    re.IGNORECASE,
)
_HALF = re.compile(r"(\d+) and (?:a )?half\b")
_HALF_ALONE = re.compile(r"\b(?:a )?half\b")
_DOZEN = re.compile(r"(?:(\d+(?:\.\d+)?) |\ba )?dozens?\b")


def parse_number(text: str) -> Answer | None:
    """Reads one count; of alternatives or a range the lower; nothing without a number."""
    heard = last_correction(tidy(text))
    alone = words_of(heard)
    if len(alone) == 1 and alone[0] in _SOUNDS_LIKE:
        return Answer(str(_SOUNDS_LIKE[alone[0]]), 0.6, heard)
    if _NONE.search(heard):
        return Answer("0", 0.8, heard)
    numbers = _numbers(heard)
    if not numbers or max(numbers) > MAX_NUMBER:
        return None
    distinct = sorted(set(numbers))
    if len(distinct) > 2:
        return None
    return Answer(plain(distinct[0]), 0.95 if len(distinct) == 1 else 0.7, heard)


def _numbers(heard: str) -> list[Decimal]:
    digits = with_digits(_PRONOUN_ONE.sub("it", heard))
    digits = _DOZEN.sub(lambda match: plain(Decimal(match[1] or 1) * 12), digits)
    digits = _HALF.sub(lambda match: f"{match[1]}.5", digits)
    found = [Decimal(match[1]) for match in _NUMBER.finditer(digits)]
    if not found and _HALF_ALONE.search(digits):
        return [Decimal("0.5")]
    return found
