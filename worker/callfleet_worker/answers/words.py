"""Transcripts made comparable: one spelling, digits for number words, clauses, corrections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from text_to_num import alpha2digit

MAX_HEARD_CHARACTERS = 2_000
"""A longer transcript than anybody says in one turn is cut: every grammar below is linear in it."""

_APOSTROPHES = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2014": ", ", "\u2013": "-"}
)
_CORRECTION = re.compile(
    r"\b(?:i mean|sorry|actually|no wait|wait no|scratch that|or rather|let me think)\b,?|(?<=,) no,|"
    r"(?:^|(?<=[,.!?-]) ?)(?:wait|make that)\b,?",
    re.IGNORECASE,
)
_FILLERS = re.compile(
    r"(?<!-)\b(?:u+m+|u+h+|e+r+m?|hmm+|well|like i said|you know|let's see|let me see|"
    r"i suppose you could say)\b(?!-)[,.]*\s*",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:(?:i )?(?:really |honestly |just )?(?:do not|don't|dunno|don) ?know|dunno|no idea|no clue|"
    r"not (?:\w+ )?sure|"
    r"unsure|can't say|couldn't say|hard to say|it depends|depends|haven't (?:decided|thought)|who knows|"
    r"haven't really thought|undecided|no preference|doesn't matter|don't (?:really )?care|whatever|whichever|"
    r"either (?:one|is fine|way)|maybe|perhaps|possibly|you tell me)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """A canonical value (see `callfleet_core.script`), how sure the grammar is (0..1), and the words it rests on."""

    value: str
    confidence: float
    evidence: str


def tidy(text: str) -> str:
    """One line of plain punctuation, at most `MAX_HEARD_CHARACTERS` long, without fillers."""
    flat = " ".join(text.translate(_APOSTROPHES).split())[:MAX_HEARD_CHARACTERS]
    return _FILLERS.sub("", flat).strip()


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation."""
    return re.findall(r"[a-z0-9']+(?:-[a-z0-9']+)*", text.lower())


def last_correction(text: str) -> str:
    """What is left after the speaker's last correction ("three, no wait, four" → "four"); else the text."""
    parts = [part for part in _CORRECTION.split(text) if part and part.strip(" ,.")]
    return parts[-1].strip(" ,.") if parts else text


def without_doubt(text: str) -> str:
    """The words that are left when "I'm not sure" and its like are taken out."""
    return _UNSURE.sub(" ", text)


def is_unsure(text: str) -> bool:
    """True when the words say that the speaker does not know or does not mind."""
    return _UNSURE.search(text.translate(_APOSTROPHES)) is not None


def with_digits(text: str) -> str:
    """Number words and scales as plain digits: "about 1.2 million" → "about 1200000"; lower case."""
    joined = re.sub(r"(?<=\d)\s?,\s?(?=\d{3}\b)", "", tidy(text).lower())
    spelled = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", joined)
    spelled = re.sub(r"\b(?:a|the)? ?couple(?: of)?\b", "two", spelled)
    spelled = re.sub(r"\bgrand\b", "thousand", spelled)
    spelled = re.sub(r"\bhalf an?\b(?= (?:million|thousand|hundred|dozen))", "0.5", spelled)
    spelled = re.sub(r"\b(?:a )?quarter(?: of)?(?: an?)?\b(?= million)", "0.25", spelled)
    digits = alpha2digit(spelled, "en", threshold=0)
    digits = re.sub(r"(\d+) and (?:a )?half (?=(?:100|1000|1000000)\b)", r"\1.5 ", digits)
    digits = re.sub(r"(\d)\s?(?:k|K)\b", r"\1 1000", digits)
    digits = re.sub(r"(\d)\s?(?:mil|mm?)\b", r"\1 1000000", digits)
    return _SCALED.sub(_multiply, _SCALED.sub(_multiply, digits))


_SCALED = re.compile(r"(?<![\d.])(\d{1,7}(?:\.\d{1,6})?) (100|1000|100000|1000000)\b")


def _multiply(match: re.Match[str]) -> str:
    product = Decimal(match[1]) * int(match[2])
    return plain(product)


def plain(number: Decimal) -> str:
    """A decimal without exponent or trailing zeros: the canonical text of numbers and money."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
