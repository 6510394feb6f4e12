"""Days and months of a time zone: contiguous, whatever the clocks do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.windows import TimeZoneError, WindowKind, beside, time_zone, window_at

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Pacific/Apia",
    "UTC",
)
INSTANTS = st.datetimes(datetime(2010, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone


@given(st.sampled_from(ZONES), st.sampled_from([WindowKind.DAILY, WindowKind.MONTHLY]), INSTANTS)
def test_windows_hold_their_moment_and_touch_each_other(name: str, kind: WindowKind, now: datetime) -> None:
    zone = time_zone(name)
    window = window_at(kind, zone, now)
    assert window.start is not None
    assert window.end is not None
    assert window.start <= now < window.end
    following = window_at(kind, zone, window.end)
    assert following.start == window.end
    assert following.key > window.key
    assert window_at(kind, zone, window.end - timedelta(microseconds=1)) == window


def test_the_day_of_a_clock_change_is_23_or_25_hours_long() -> None:
    zone = time_zone("America/New_York")
    lengths = []
    for day in ("2026-03-08", "2026-11-01"):
        window = window_at(WindowKind.DAILY, zone, datetime.fromisoformat(f"{day}T18:00:00+00:00"))
        assert window.start is not None
        assert window.end is not None
        lengths.append(window.end - window.start)
    assert lengths == [timedelta(hours=23), timedelta(hours=25)]


def test_the_samples_day_begins_at_midnight_in_new_york() -> None:
    now = datetime(2026, 11, 22, 9, tzinfo=UTC)
    window = window_at(WindowKind.DAILY, time_zone("America/New_York"), now)
    assert (window.key, window.start) == ("daily/2026-11-22", datetime(2026, 11, 22, 5, tzinfo=UTC))


def test_a_day_beside_another_of_its_date_has_the_same_bounds_and_a_name_of_its_own() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    window = window_at(WindowKind.DAILY, time_zone("America/Bogota"), now)
    assert beside(window) == replace(window, key="daily/2026-11-30/America/Bogota")


def test_an_unknown_zone_says_what_to_write() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(TimeZoneError, match="America/New_York"):
            time_zone(name)
