"""Amounts: "about four hundred thousand", "$450K"; of a range the upper (what the person can pay at most)."""

from __future__ import annotations

import re
from decimal import Decimal

from callfleet_worker.answers.words import Answer, is_unsure, last_correction, plain, tidy, with_digits

MAX_AMOUNT = Decimal(1_000_000_000)
_AMOUNT = r"\$?\s?(\d{1,10}(?:\.\d{1,6})?)"
_CURRENCY = re.compile(r"[$€£]|\b(?:dollars?|bucks|usd|euros?|pounds?|cents?)\b", re.IGNORECASE)
_RANGE = re.compile(
    _AMOUNT
    + r"\s*(?:dollars?)?\s*,?\s*(?:to|and|or|-|until|through|maybe|up to|possibly)\s*(?:maybe |even |about |around )?"
    + _AMOUNT
)
_SINGLE = re.compile(_AMOUNT)
_PAIR = re.compile(r"(?<![\d.$])([1-9]) ([1-9]\d)(?: (?=1000\b)|(?=000\b)|(?=\D|$))")
_DATE_LIKE = re.compile(
    r"\b\d{1,3} (?:months?|weeks?|years?|days?|bed\w*|bath\w*|rooms?|people|kids|children|percent)\b|\d+\s?%"
)
_THOUSANDS = 1_000
_SCALE_HINT = Decimal(10_000)


def parse_money(text: str, least_expected: Decimal | None = None) -> Answer | None:
    """Reads one amount, without a currency sign; nothing without a number.

    A bare number below 1,000 without a currency word is read as thousands when `least_expected`
    (the script's own idea of a qualifying amount) is 10,000 or more: "four fifty" for a house is 450,000.
    """
    heard = last_correction(tidy(text))
    if not heard:
        return None
    digits = _compact(heard)
    values = _values(digits)
    if not values or (len(values) > 2):
        return None
    top = max(values)
    if (
        least_expected is not None
        and least_expected >= _SCALE_HINT
        and not _CURRENCY.search(heard)
        and top < _THOUSANDS
    ):
        top *= _THOUSANDS
    if top > MAX_AMOUNT or (top == 0 and is_unsure(heard)):
        return None
    return Answer(plain(top), 0.95 if len(values) == 1 else 0.8, heard)


def _compact(heard: str) -> str:
    split = re.sub(r"\bbetween (.+?) and\b", r"\1 to", heard, flags=re.IGNORECASE)
    parts = re.split(r"\b(to|or|and maybe|maybe|up to)\b", split, flags=re.IGNORECASE)
    digits = " ".join(part if index % 2 else with_digits(part) for index, part in enumerate(parts))
    digits = _DATE_LIKE.sub(" ", digits)
    # "four fifty" is 4 50, "three fifty thousand" 3 50000: people leave out the word hundred.
    digits = re.sub(r"(?<![\d.])([1-9]) ([1-9]\d)(000)?\b", lambda m: f"{m[1]}{m[2]}{m[3] or ''}", digits)
    return re.sub(r"(?<=\d) and (?:a )?half (?=100)", ".5 ", digits)


def _values(digits: str) -> list[Decimal]:
    span = _RANGE.search(digits)
    if span:
        low, high = Decimal(span[1]), Decimal(span[2])
        return [_same_scale(low, high), high]
    return [Decimal(match[1]) for match in _SINGLE.finditer(digits)]


def _same_scale(low: Decimal, high: Decimal) -> Decimal:
    """ "300 to 350 thousand": the scale is said once, for both."""
    return low * _THOUSANDS if low < _THOUSANDS <= high and low * _THOUSANDS <= high else low
