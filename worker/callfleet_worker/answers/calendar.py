"""Spans of days: months, seasons, years and holidays relative to a day. Pure; northern-hemisphere seasons."""

from __future__ import annotations

import calendar as _calendar
from dataclasses import dataclass
from datetime import date, timedelta

MONTHS = (
    {name.lower(): index for index, name in enumerate(_calendar.month_name) if name}
    | {name.lower(): index for index, name in enumerate(_calendar.month_abbr) if name}
    | {"sept": 9}
)
WEEKDAYS = {name.lower(): index for index, name in enumerate(_calendar.day_name)}
SEASONS = {"spring": 3, "summer": 6, "fall": 9, "autumn": 9, "winter": 12}
HOLIDAYS = {
    "christmas": (12, 25),
    "the holidays": (12, 25),
    "thanksgiving": (11, 26),
    "halloween": (10, 31),
    "new year": (1, 1),
    "new year's": (1, 1),
    "new years": (1, 1),
    "easter": (4, 5),
    "the fourth of july": (7, 4),
}
MAX_YEARS_AHEAD = 30


@dataclass(frozen=True)
class Span:
    """Days from start to end, both included."""

    start: date
    end: date

    def canonical(self) -> str:
        """The canonical text of a date range."""
        return f"{self.start.isoformat()}/{self.end.isoformat()}"


def add_months(day: date, months: int) -> date:
    """The same day of a later month, or that month's last day."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, _calendar.monthrange(year, month + 1)[1]))


def add_units(day: date, count: float, unit: str) -> date:
    """`count` days, weeks, months or years later; halves of months and years are allowed."""
    if unit.startswith("day"):
        return day + timedelta(days=round(count))
    if unit.startswith("week"):
        return day + timedelta(days=round(count * 7))
    months = count * 12 if unit.startswith("year") else count
    whole = int(months)
    return add_months(day, whole) + timedelta(days=round((months - whole) * 30))


def month_span(year: int, month: int) -> Span:
    """A calendar month."""
    return Span(date(year, month, 1), date(year, month, _calendar.monthrange(year, month)[1]))


def next_month_named(today: date, month: int) -> Span:
    """The coming (or current) occurrence of a named month, never starting before today."""
    year = today.year if month >= today.month else today.year + 1
    span = month_span(year, month)
    return Span(max(span.start, today), span.end)


def season_span(year: int, first_month: int) -> Span:
    """A meteorological season by its first month."""
    start = date(year, first_month, 1)
    return Span(start, add_months(start, 3) - timedelta(days=1))


def next_season(today: date, first_month: int, *, following_year: bool = False) -> Span:
    """The season under way or coming; with `following_year` the one that starts in the next calendar year."""
    if following_year:
        return season_span(today.year + 1, first_month)
    for year in (today.year - 1, today.year, today.year + 1):
        span = season_span(year, first_month)
        if span.end >= today:
            return Span(max(span.start, today), span.end)
    raise AssertionError("a season comes every year")


def next_day_of_year(today: date, month: int, day: int) -> date:
    """The coming occurrence of a day of the year, today included."""
    this_year = date(today.year, month, day)
    return this_year if this_year >= today else date(today.year + 1, month, day)


def year_span(today: date, year: int) -> Span:
    """A calendar year; the current one from today."""
    return Span(max(date(year, 1, 1), today) if year >= today.year else date(year, 1, 1), date(year, 12, 31))


def week_span(today: date, weeks_ahead: int) -> Span:
    """The Monday-to-Sunday week that is `weeks_ahead` after this one; the current one from today."""
    monday = today - timedelta(days=today.weekday()) + timedelta(weeks=weeks_ahead)
    return Span(max(monday, today), monday + timedelta(days=6))


def part_of(span: Span, part: str) -> Span:
    """The early, middle or late third of a span."""
    third = max(1, (span.end - span.start).days // 3)
    if part in ("early", "beginning", "start", "first part"):
        return Span(span.start, span.start + timedelta(days=third))
    if part in ("late", "end", "later part", "tail end"):
        return Span(span.end - timedelta(days=third), span.end)
    return Span(span.start + timedelta(days=third), span.end - timedelta(days=third))
