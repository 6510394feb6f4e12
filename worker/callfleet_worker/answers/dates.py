"""When: "in the next three months", "by March", "this summer"; relative to the call's own day.

Decisions, all tested: "in N units" begins N units from now and lasts one unit; "in the next N units" and
"within N units" begin today; "by X" runs from today to X's end and "before X" to the day before it; a bare season or
month is the one under way or coming; "as soon as possible" is 30 days, "soon" 90; "after X" is the 90 days that follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta

import dateparser

from callfleet_worker.answers import calendar as cal
from callfleet_worker.answers.calendar import Span
from callfleet_worker.answers.words import Answer, last_correction, tidy, with_digits

ASAP_DAYS = 30
SOON_DAYS = 90
AFTER_DAYS = 90
_MAX_COUNT = 400
_UNIT = r"(day|week|month|year)s?"
_COUNT = r"(\d{1,3}(?:\.\d)?(?: and (?:a )?half)?|an?|few|a few|several|half an?)"
_MONTH = "(" + "|".join(sorted((name for name in cal.MONTHS if name != "may"), key=len, reverse=True)) + "|may)"
_SEASON = "(" + "|".join(cal.SEASONS) + ")"
_HOLIDAY = "(" + "|".join(sorted(cal.HOLIDAYS, key=len, reverse=True)) + ")"
_WEEKDAY = "(" + "|".join(cal.WEEKDAYS) + ")"
_PART = r"(?:(?:the )?(early|mid|middle|late|beginning|start|end|tail end)(?: of| in|-)? ?)?"
_YEAR = r"(20\d\d)"
_DOUBT = re.compile(
    r"\b(?:don't know|do not know|no idea|not (?:\w+ )?sure|never|whenever|no (?:rush|hurry|plans?|"
    r"timeline)|not any ?time|"
    r"haven't (?:decided|thought)|depends|doesn't matter|no clue|not (?:planning|moving|going))\b"
)
_ASAP = re.compile(
    r"\b(?:as soon as (?:possible|i can|we can)|a\.?s\.?a\.?p|right away|right now|immediately|straight away|"
    r"as quickly as|first thing|today|now|yesterday)\b"
)
_SOON = re.compile(r"\b(?:soon|pretty soon|shortly|before long|in the near future|any day now)\b")
_Rule = tuple[re.Pattern[str], Callable[[re.Match[str], date], Span | None]]


def parse_date_range(text: str, today: date) -> Answer | None:
    """Reads when, as `YYYY-MM-DD/YYYY-MM-DD` (both days included); nothing when no time was said.

    `today` is the call's day in the campaign's time zone.
    """
    heard = last_correction(tidy(text))
    plain = re.sub(r"[,!?;:]|\.(?!\d)", " ", heard.lower())
    plain = " ".join(with_digits(plain).split())
    if not plain or _DOUBT.search(plain):
        return None
    span = _by_rules(plain, today, heard) or _explicit(plain, today)
    if span is None or span.end < today or span.end.year > today.year + cal.MAX_YEARS_AHEAD:
        return None
    return Answer(span.canonical(), 0.9, heard)


def _by_rules(plain: str, today: date, heard: str) -> Span | None:
    named_may = re.search(r"\bMay\b", heard) or re.search(
        r"\b(?:in|by|next|this|of|before|until|or|and|early|mid|late|till|around|about) may\b|^may$", plain
    )
    masked = plain if named_may else re.sub(r"\bmay\b", "might", plain)
    for pattern, build in _RULES:
        match = pattern.search(masked)
        if match and (span := build(match, today)):
            return span
    return None


def _count(text: str) -> float | None:
    if text in ("a", "an"):
        return 1.0
    if text in ("few", "a few", "several"):
        return 3.0
    if text.startswith("half"):
        return 0.5
    number = re.match(r"\d+(?:\.\d)?", text)
    if number is None:
        return None
    value = float(number[0]) + (0.5 if "half" in text else 0)
    return value if value <= _MAX_COUNT else None


def _within(match: re.Match[str], today: date) -> Span | None:
    count = _count(match[1] or "1")
    return Span(today, cal.add_units(today, count, match[2])) if count else None


def _in_units(match: re.Match[str], today: date) -> Span | None:
    count = _count(match[1])
    if not count:
        return None
    extra = 0.5 if match.lastindex and match.lastindex >= 3 and match[3] else 0.0
    start = cal.add_units(today, count + extra, match[2])
    slack_unit = match[2] if (count + extra).is_integer() else "month"
    return Span(start, cal.add_units(start, 1, slack_unit) - timedelta(days=1))


def _units_range(match: re.Match[str], today: date) -> Span | None:
    low, high = float(match[1]), float(match[2])
    if not 0 <= low <= high <= _MAX_COUNT:
        return None
    return Span(cal.add_units(today, low, match[3]), cal.add_units(today, high, match[3]))


def _this_or_next(match: re.Match[str], today: date) -> Span | None:
    part, which, unit = match[1], match[2], match[3]
    ahead = 0 if which in ("this", "the", "later this") else 1
    if unit == "week":
        span = cal.week_span(today, ahead)
    elif unit == "month":
        first = cal.add_months(today.replace(day=1), ahead)
        month = cal.month_span(first.year, first.month)
        span = Span(max(month.start, today), month.end)
    else:
        span = cal.year_span(today, today.year + ahead)
    return cal.part_of(span, part) if part else span


def _anchor(text: str, today: date) -> Span | None:
    """What "by …", "before …" and "after …" can lean on."""
    for pattern, build in _ANCHORS:
        match = pattern.fullmatch(text.strip())
        if match:
            return build(match, today)
    return None


def _by(match: re.Match[str], today: date) -> Span | None:
    anchor = _longest_anchor(match[2], today)
    if anchor is None:
        return None
    before = match[1] in ("before", "prior to", "ahead of")
    return Span(today, anchor.start - timedelta(days=1) if before else anchor.end)


def _after(match: re.Match[str], today: date) -> Span | None:
    anchor = _longest_anchor(match[1], today)
    if anchor is None:
        return None
    return Span(anchor.end + timedelta(days=1), anchor.end + timedelta(days=AFTER_DAYS))


def _longest_anchor(text: str, today: date) -> Span | None:
    words = text.split()[:8]
    for length in range(len(words), 0, -1):
        if anchor := _anchor(" ".join(words[:length]), today):
            return anchor
    return None


def _month(match: re.Match[str], today: date) -> Span | None:
    part, name, year = match[1], match[2], match[3]
    month = cal.MONTHS[name]
    span = cal.month_span(int(year), month) if year else cal.next_month_named(today, month)
    return cal.part_of(cal.month_span(span.start.year, month), part) if part else span


def _months(match: re.Match[str], today: date) -> Span | None:
    first = cal.next_month_named(today, cal.MONTHS[match[1]])
    second = cal.next_month_named(first.start, cal.MONTHS[match[2]])
    return Span(first.start, second.end)


def _season(match: re.Match[str], today: date) -> Span | None:
    part, which, name, year = match[1], match[2], match[3], match[4]
    first_month = cal.SEASONS[name]
    if year:
        span = cal.season_span(int(year), first_month)
    else:
        span = cal.next_season(today, first_month, following_year=which == "next")
    return cal.part_of(span, part) if part else span


def _holiday(match: re.Match[str], today: date) -> Span:
    day = cal.next_day_of_year(today, *cal.HOLIDAYS[match[1]])
    return Span(day, day)


def _year(match: re.Match[str], today: date) -> Span | None:
    span = cal.year_span(today, int(match[2]))
    return cal.part_of(span, match[1]) if match[1] else span


def _quarter(match: re.Match[str], today: date) -> Span | None:
    which, of_half, year = match[1], match[2] == "half", match[3]
    index = {
        "1st": 0,
        "first": 0,
        "2nd": 1,
        "second": 1,
        "3rd": 2,
        "third": 2,
        "4th": 3,
        "fourth": 3,
        "last": -1,
    }[which]
    months = 6 if of_half else 3
    index = (12 // months - 1) if index == -1 else index
    target = (
        today.year + 1 if year == "next year" else today.year if year in ("this year", "the year", None) else int(year)
    )
    if index * months >= 12:
        return None
    start = date(target, index * months + 1, 1)
    return Span(max(start, today), cal.add_months(start, months) - timedelta(days=1))


def _weekday(match: re.Match[str], today: date) -> Span:
    ahead = (cal.WEEKDAYS[match[2]] - today.weekday()) % 7 or 7
    if match[1] == "next" and ahead < 7 - today.weekday():
        ahead += 7
    return Span(today + timedelta(days=ahead), today + timedelta(days=ahead))


def _days(days: int) -> Callable[[re.Match[str], date], Span]:
    return lambda _match, today: Span(today, today + timedelta(days=days))


def _tomorrow(_match: re.Match[str], today: date) -> Span:
    return Span(today + timedelta(days=1), today + timedelta(days=1))


def _year_end(_match: re.Match[str], today: date) -> Span:
    return cal.part_of(Span(date(today.year, 1, 1), date(today.year, 12, 31)), "end")


_NO_DAY_BEFORE = "".join(rf"(?<!\d{suffix}{of} )" for suffix in ("st", "nd", "rd", "th") for of in ("", " of"))
_MONTH_RULE = re.compile(rf"{_NO_DAY_BEFORE}\b{_PART}{_MONTH}(?!\s\d{{1,2}}(?:st|nd|rd|th)?\b)(?: (?:of )?{_YEAR})?\b")
_SEASON_RULE = re.compile(
    rf"\b{_PART}(this|next|the|in|coming|this coming)? ?(?:coming )?{_SEASON}\b(?: (?:of )?{_YEAR})?"
)
_THIS_NEXT = re.compile(rf"\b{_PART}(this|next|the|later this|the following) {_UNIT}\b")
_YEAR_RULE = re.compile(rf"\b{_PART}{_YEAR}\b")
_HOLIDAY_RULE = re.compile(rf"\b(?:the )?{_HOLIDAY}\b")
_QUARTER = re.compile(
    r"\b(1st|2nd|3rd|4th|first|second|third|fourth|last) (quarter|half)(?: of (next year|this year|"
    r"the year|20\d\d))?\b"
)
_ANCHORS: list[_Rule] = [
    (re.compile(r"(?:the )?end of the year|year ?end|year's end"), _year_end),
    (_QUARTER, _quarter),
    (_THIS_NEXT, _this_or_next),
    (_MONTH_RULE, _month),
    (_SEASON_RULE, _season),
    (_HOLIDAY_RULE, _holiday),
    (_YEAR_RULE, _year),
    (re.compile(r"tomorrow"), _tomorrow),
    (re.compile(rf"(this|next)? ?{_WEEKDAY}"), _weekday),
]
_RULES: list[_Rule] = [
    (
        re.compile(rf"\b(\d{{1,2}}(?:\.5)?) ?(?:to|or|-|and|maybe) (?:maybe )?(\d{{1,2}}(?:\.5)?) {_UNIT}\b"),
        _units_range,
    ),
    (
        re.compile(
            rf"\b(?:(?:in|within|over|during|for) )?the (?:next|coming|"
            rf"following)(?: {_COUNT})? {_UNIT}\b(?<!the following year)"
        ),
        _within,
    ),
    (
        re.compile(
            rf"\b(?:within|inside(?: of)?|under|less than|no (?:more|later) than|at most|"
            rf"up to)(?: the)?(?: next)?(?: about)?(?: {_COUNT})? {_UNIT}\b"
        ),
        _within,
    ),
    (re.compile(rf"\bnext {_COUNT} {_UNIT}\b"), _within),
    (re.compile(r"\b(by|before|prior to|ahead of|until|till|no later than) (.+)"), _by),
    (re.compile(r"\b(?:after|past|following) (.+)"), _after),
    (re.compile(rf"\b(?:between |from )?{_MONTH} (?:and|or|to|through|until|-) {_MONTH}\b"), _months),
    (re.compile(r"\b(?:the )?end of the year\b|\byear ?end\b"), _year_end),
    (_QUARTER, _quarter),
    (_THIS_NEXT, _this_or_next),
    (re.compile(rf"\b{_COUNT} {_UNIT}( and (?:a )?half)?\b"), _in_units),
    (_MONTH_RULE, _month),
    (_SEASON_RULE, _season),
    (_HOLIDAY_RULE, _holiday),
    (re.compile(r"\btomorrow\b"), _tomorrow),
    (re.compile(rf"\b(this|next)? ?{_WEEKDAY}\b"), _weekday),
    (_ASAP, _days(ASAP_DAYS)),
    (_SOON, _days(SOON_DAYS)),
]
_EXPLICIT = re.compile(
    rf"\b(?:{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?: 20\d\d)?|(?:the )?\d{{1,2}}(?:st|nd|rd|"
    rf"th) (?:of )?{_MONTH}(?: 20\d\d)?|"
    rf"\d{{1,2}}/\d{{1,2}}(?:/\d{{2,4}})?)\b"
)


def _explicit(plain: str, today: date) -> Span | None:
    """A day of the calendar, read by dateparser; else a bare year."""
    match = _EXPLICIT.search(plain)
    if match:
        # dateparser wants a naive base; only its date is used.
        base = datetime(today.year, today.month, today.day)  # noqa: DTZ001
        parsed = dateparser.parse(
            match[0].removeprefix("the "),
            languages=["en"],
            settings={"PREFER_DATES_FROM": "future", "RELATIVE_BASE": base, "DATE_ORDER": "MDY"},
        )
        if parsed is not None:
            return Span(parsed.date(), parsed.date())
    year = _YEAR_RULE.search(plain)
    return _year(year, today) if year else None
