"""Budget windows: days and months of a budget's own time zone, as instants that never move.

A window's end is the next one's start by construction, whatever the clocks do in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from callfleet_core.errors import CallFleetError


class TimeZoneError(CallFleetError, ValueError):
    """A time zone that the IANA database does not have."""


class WindowKind(StrEnum):
    """How long a limit lasts."""

    DAILY = "Daily"
    MONTHLY = "Monthly"
    TOTAL = "Total"


@dataclass(frozen=True)
class Window:
    """A span of time with a limit of its own: [start, end) in UTC, by midnights of `zone`; all None for Total."""

    kind: WindowKind
    key: str
    start: datetime | None = None
    end: datetime | None = None
    zone: str | None = None


TOTAL = Window(WindowKind.TOTAL, "total")


def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises TimeZoneError saying what to write."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TimeZoneError(f"there is no time zone {name!r}: write an IANA name such as America/New_York") from error


def person_zone(name: str) -> str:
    """The name, if it is one of a zone that every part of CallFleet reads alike.

    PostgreSQL has a few bare names, such as CET, that mean something else there. Raises TimeZoneError, which does not
    repeat what was written: in a list whose columns are mixed up that may be somebody's name.
    """
    if "/" not in name or name not in _zone_names():
        raise TimeZoneError("there is no such time zone: write an IANA name, Area/City, such as America/New_York")
    return name


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def window_at(kind: WindowKind, zone: ZoneInfo, now: datetime) -> Window:
    """The window of that kind which holds `now`."""
    today = now.astimezone(zone).date()
    if kind is WindowKind.DAILY:
        tomorrow = today + timedelta(days=1)
        return Window(kind, f"daily/{today.isoformat()}", _midnight(today, zone), _midnight(tomorrow, zone), zone.key)
    if kind is WindowKind.MONTHLY:
        first = today.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        return Window(kind, f"monthly/{first:%Y-%m}", _midnight(first, zone), _midnight(following, zone), zone.key)
    return TOTAL


def beside(window: Window) -> Window:
    """The same day or month under a name that no other time zone's has: of one date there are several."""
    return replace(window, key=f"{window.key}/{window.zone}")


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
