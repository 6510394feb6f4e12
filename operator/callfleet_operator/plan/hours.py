"""Whether a call may begin now by its campaign's schedule, and if not, when it may. Pure.

An instant is inside a window when the local clock shows the day and the minute of it. That is all there is to changes
of clocks: hours that are left out never come, hours that come twice count twice. begin_dial judges the same way
(alembic/sql/0013_hours.sql); this module only keeps calls from being admitted that it would refuse.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from callfleet_core.api.campaign import CampaignSpec
from callfleet_core.api.schedule import Day
from callfleet_core.windows import TimeZoneError, time_zone

# An opening is looked for so far ahead: two weeks, since one day of a week may be left out where a zone changes sides
# of the date line. Zones whose windows don't meet within that time may do so after a change of clocks.
HORIZON = timedelta(days=15)
# Nowhere do clocks change twice within so little time.
_CLOCKS_CHANGE_APART = timedelta(hours=6)
_DAYS = {day: number for number, day in enumerate(Day, start=1)}

# [start, end) in UTC, in order, none touching the next.
Spans = tuple[tuple[datetime, datetime], ...]


@dataclass(frozen=True)
class Window:
    """Hours of some days of the week: ISO weekdays (Monday is 1), minutes of the day, `to_minute` not included."""

    days: frozenset[int]
    from_minute: int
    to_minute: int

    def holds(self, local: datetime) -> bool:
        """Whether the local clock shows a time in it."""
        return local.isoweekday() in self.days and self.from_minute <= local.hour * 60 + local.minute < self.to_minute


@dataclass(frozen=True)
class Hours:
    """A campaign's schedule. `zone`: an IANA name; None: the zones of whoever is called. No windows: any hour."""

    windows: tuple[Window, ...] = ()
    zone: str | None = None
    not_after: datetime | None = None

    def zones(self, callee: Sequence[str]) -> tuple[str, ...]:
        """The zones that must all be inside a window; `callee` are those that the number may be in."""
        return tuple(callee) if self.zone is None else (self.zone,)

    @property
    def by_callees_clock(self) -> bool:
        """Whether it depends on where the person is when a call may begin."""
        return bool(self.windows) and self.zone is None

    def document(self) -> dict[str, Any]:
        """As PostgreSQL keeps it, for begin_dial."""
        return {
            "zone": self.zone,
            "notAfter": None if self.not_after is None else self.not_after.isoformat(),
            "windows": [
                {"days": sorted(item.days), "from": item.from_minute, "to": item.to_minute} for item in self.windows
            ],
        }


def hours_of(spec: CampaignSpec) -> Hours | None:
    """A campaign's hours; None: it has no schedule and may call at any time."""
    schedule = spec.schedule
    if schedule is None:
        return None
    windows = tuple(
        Window(frozenset(_DAYS[day] for day in item.days), _minutes(item.from_), _minutes(item.to))
        for item in schedule.windows or []
    )
    zone = spec.time_zone if schedule.zone == "Campaign" else None
    return Hours(windows, zone, None if schedule.not_after is None else schedule.not_after.astimezone(UTC))


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def is_over(hours: Hours, now: datetime) -> bool:
    """Whether nobody is dialled any more."""
    return hours.not_after is not None and now >= hours.not_after


def is_open(hours: Hours, callee: Sequence[str], now: datetime) -> bool:
    """Whether a call may begin now to a number that may be in the zones `callee`; in no known zone it never may."""
    if is_over(hours, now):
        return False
    if not hours.windows:
        return True
    zones = [_known(name) for name in hours.zones(callee)]
    return bool(zones) and all(zone is not None and _is_inside(hours.windows, zone, now) for zone in zones)


def next_opening(hours: Hours, callee: Sequence[str], now: datetime) -> datetime | None:
    """The first instant from now on at which `is_open`, in UTC; None: there is none within HORIZON."""
    now = now.astimezone(UTC)
    if is_open(hours, callee, now):
        return now
    zones = hours.zones(callee)
    if is_over(hours, now) or not zones or any(_known(name) is None for name in zones):
        return None
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    opening = _first_common([_spans(hours.windows, name, today) for name in zones], now)
    if opening is None or is_over(hours, opening):
        return None
    return opening


def why_never(hours: Hours, callee: Sequence[str], now: datetime) -> str:
    """Why there is no next opening, and what to do about it."""
    if is_over(hours, now):
        return "the campaign has ended (schedule.notAfter)"
    zones = hours.zones(callee)
    if not zones:
        return "the number tells no time zone: state the contact's, or let schedule.zone be Campaign"
    if any(_known(name) is None for name in zones):
        return "a time zone is not known: correct the contact's, or the campaign's"
    if len(zones) > 1:
        return (
            f"the number may be in {len(zones)} time zones whose windows do not meet before schedule.notAfter or within"
            " two weeks: state the contact's time zone, or let schedule.zone be Campaign"
        )
    return "no window opens before schedule.notAfter"


def _is_inside(windows: Sequence[Window], zone: ZoneInfo, now: datetime) -> bool:
    local = now.astimezone(zone)
    return any(window.holds(local) for window in windows)


def _first_common(all_spans: Sequence[Spans], now: datetime) -> datetime | None:
    """The first instant from now on that is in a span of each."""
    while True:
        firsts = [_first(spans, now) for spans in all_spans]
        known = [item for item in firsts if item is not None]
        if len(known) < len(firsts):
            return None
        if max(known) == now:
            return now
        now = max(known)


def _first(spans: Spans, moment: datetime) -> datetime | None:
    """The first instant from `moment` on that is in a span."""
    place = bisect_right(spans, moment, key=lambda span: span[0])
    if place and moment < spans[place - 1][1]:
        return moment
    return spans[place][0] if place < len(spans) else None


@lru_cache(maxsize=256)
def _known(name: str) -> ZoneInfo | None:
    try:
        return time_zone(name)
    except TimeZoneError:
        return None


@lru_cache(maxsize=4096)
def _spans(windows: tuple[Window, ...], name: str, start: datetime) -> Spans:
    """When a zone is inside the windows, from `start` on until HORIZON; remembered, since thousands ask it."""
    end = start + HORIZON
    found: list[tuple[datetime, datetime]] = []
    for first, last, offset in _pieces(time_zone(name), start, end):
        inside = sorted(
            (max(first, opens - offset), min(last, closes - offset))
            for opens, closes in _local_spans(windows, first + offset, last + offset)
        )
        for opens, closes in inside:
            if opens >= closes:
                continue
            if found and opens <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], closes))
            else:
                found.append((opens, closes))
    return tuple(found)


def _local_spans(windows: Sequence[Window], first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The windows of every local day from `first` to `last`: local clock times, which UTC stands in for."""
    day = first.replace(hour=0, minute=0, second=0, microsecond=0)
    while day < last:
        for window in windows:
            if day.isoweekday() in window.days:
                yield day + timedelta(minutes=window.from_minute), day + timedelta(minutes=window.to_minute)
        day += timedelta(days=1)


def _pieces(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """The time from start to end in pieces between changes of the zone's clock, each with its offset from UTC."""
    since, offset = start, _offset(zone, start)
    seen = start
    while seen < end:
        ahead = min(seen + _CLOCKS_CHANGE_APART, end)
        if _offset(zone, ahead) != offset:
            change = _change(zone, seen, ahead)
            yield since, change, offset
            since, offset = change, _offset(zone, ahead)
        seen = ahead
    if since < end:
        yield since, end, offset


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the clock changes between two instants."""
    old = _offset(zone, before)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
        if _offset(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    return timedelta() if offset is None else offset
