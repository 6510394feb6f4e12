"""One of a few choices, tolerant of plurals, split compounds and Whisper's near misses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rapidfuzz import fuzz

from callfleet_worker.answers.words import Answer, is_unsure, last_correction, tidy, words_of

EXACT_SCORE = 100.0
MIN_SCORE = 84.0
_MIN_PREFIX = 4
_ORDINALS = {
    "first": 0,
    "1st": 0,
    "second": 1,
    "2nd": 1,
    "third": 2,
    "3rd": 2,
    "last": -1,
    "latter": -1,
    "former": 0,
}
_NOT = re.compile(
    r"\b(?:not|no|isn't|don't (?:want|need|like)|rather than|instead of|never|except|without)\s+"
    r"(?:really |looking for |interested in )?(?:an?|the|any)?\s*(\w+(?: \w+)?)",
    re.IGNORECASE,
)


def parse_choice(text: str, choices: Sequence[str]) -> Answer | None:
    """Reads which choice was named; nothing when none or several were."""
    heard = last_correction(tidy(text))
    if not heard:
        return None
    refused = {choice for match in _NOT.finditer(heard) for choice in _named(match[1], choices)}
    named = {choice: score for choice, score in _named(heard, choices).items() if choice not in refused}
    if len(named) > 1:
        exact = {choice: score for choice, score in named.items() if score == EXACT_SCORE}
        named = exact if len(exact) == 1 else {}
        if not named:
            return None
    if named:
        choice, score = next(iter(named.items()))
        return Answer(choice, round(score / 100, 2), heard)
    return _by_place(heard, choices) if not refused else _only_left(choices, refused, heard)


def _named(text: str, choices: Sequence[str]) -> dict[str, float]:
    words = words_of(text)
    spans = words + ["".join(pair) for pair in pairwise(words)]
    found: dict[str, float] = {}
    for choice in choices:
        score = max((_likeness(choice, words, span) for span in spans), default=0.0)
        if score >= MIN_SCORE:
            found[choice] = score
    return _without_parts(found, words)


def _likeness(choice: str, words: list[str], span: str) -> float:
    target = words_of(choice)
    joined = "".join(target)
    if len(target) > 1 and _contains(words, target):
        return EXACT_SCORE
    if span in (joined, joined + "s", joined + "es") or span + "s" == joined:
        return EXACT_SCORE
    if len(joined) >= _MIN_PREFIX and span.startswith(joined) and len(span) > len(joined) + 2:
        return 95.0  # condo → condominium
    return fuzz.ratio(_by_sound(joined), _by_sound(span)) if len(joined) >= _MIN_PREFIX else 0.0


def _by_sound(word: str) -> str:
    """Spellings Whisper chooses freely between, folded."""
    return word.replace("ph", "f").replace("k", "c").replace("z", "s")


def _contains(words: list[str], target: list[str]) -> bool:
    return any(words[index : index + len(target)] == target for index in range(len(words) - len(target) + 1))


def _without_parts(found: dict[str, float], words: list[str]) -> dict[str, float]:
    """ "town house" names townhouse, not house: drop a choice whose every mention is part of a longer one."""
    kept = dict(found)
    for short in found:
        for long in found:
            joined_short, joined_long = "".join(words_of(short)), "".join(words_of(long))
            if joined_short == joined_long or joined_short not in joined_long:
                continue
            mentions = sum(word.rstrip("s") == joined_short.rstrip("s") for word in words)
            inside = sum("".join(pair).rstrip("s") == joined_long.rstrip("s") for pair in pairwise(words))
            if mentions <= inside:
                kept.pop(short, None)
    return kept


def _by_place(heard: str, choices: Sequence[str]) -> Answer | None:
    if is_unsure(heard):
        return None
    places = {_ORDINALS[word] for word in words_of(heard) if word in _ORDINALS}
    if len(places) != 1:
        return None
    place = places.pop()
    return Answer(choices[place], 0.7, heard) if place < len(choices) else None


def _only_left(choices: Sequence[str], refused: set[str], heard: str) -> Answer | None:
    left = [choice for choice in choices if choice not in refused]
    return Answer(left[0], 0.6, heard) if len(left) == 1 and len(choices) == 2 else None
