"""When a call may begin: what the local clock shows decides, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.operator.test_campaign_plan import BODY

from callfleet_core.api.schedule import Day, Schedule
from callfleet_operator.objects import Campaign
from callfleet_operator.plan.hours import HORIZON, Hours, Window, hours_of, is_open, next_opening

EVERY_DAY = frozenset(range(1, 8))
WORKDAYS = frozenset(range(1, 6))
OFFICE = Hours((Window(WORKDAYS, 9 * 60, 18 * 60),))
NIGHT = Hours((Window(EVERY_DAY, 2 * 60, 3 * 60),))

# Half hours and quarters of offsets, half an hour of summer time, a date line crossed, summer time in winter, none.
ZONES = (
    "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca",
    "Asia/Kolkata", "America/St_Johns", "Pacific/Chatham", "Pacific/Kiritimati", "America/Sao_Paulo", "Europe/Dublin",
    "UTC",
)  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# Around every kind of change of clocks, and any time.
CHANGES = [
    at(text)
    for text in (
        "2011-12-30T10:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z", "2026-03-29T01:00Z", "2026-10-25T01:00Z",
        "2026-04-04T15:00Z", "2026-10-03T15:30Z", "2026-02-15T02:00Z", "2026-03-22T02:00Z", "2018-11-04T03:00Z",
    )
]  # fmt: skip
ANY_TIME = st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds the zone
NEAR_A_CHANGE = st.builds(
    lambda change, away_s: change + timedelta(seconds=away_s),
    st.sampled_from(CHANGES),
    st.integers(-3 * 86_400, 3 * 86_400),
)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    days = draw(st.frozensets(st.integers(1, 7), min_size=1))
    opens = draw(st.integers(0, 24 * 60 - 1))
    return Window(days, opens, draw(st.integers(opens + 1, 24 * 60)))


@st.composite
def some_hours(draw: st.DrawFn) -> Hours:
    found = draw(st.lists(windows(), min_size=1, max_size=4))
    not_after = draw(st.none() | NEAR_A_CHANGE)
    return Hours(tuple(found), draw(st.none() | st.sampled_from(ZONES)), not_after)


def clock_shows_an_hour_of(hours: Hours, zones: tuple[str, ...], now: datetime) -> bool:
    """The definition, in the words of the local clock."""
    if hours.not_after is not None and hours.not_after <= now:
        return False
    for zone in zones if hours.zone is None else (hours.zone,):
        local = now.astimezone(ZoneInfo(zone))
        day, clock = int(local.strftime("%u")), local.strftime("%H:%M:%S")
        inside = [
            item
            for item in hours.windows
            if day in item.days
            and f"{item.from_minute // 60:02}:{item.from_minute % 60:02}:00" <= clock
            and clock < f"{item.to_minute // 60:02}:{item.to_minute % 60:02}:00"
        ]
        if not inside:
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(some_hours(), st.lists(st.sampled_from(ZONES), min_size=1, max_size=3), NEAR_A_CHANGE | ANY_TIME)
@example(NIGHT, ["America/New_York"], at("2026-03-08T06:59:59Z"))
@example(NIGHT, ["America/New_York"], at("2026-11-01T05:30:00Z"))
@example(Hours((Window(frozenset({5}), 0, 1440),)), ["Pacific/Apia"], at("2011-12-29T12:00:00Z"))
def test_the_next_opening_is_the_first_minute_of_a_walk_that_is_open(
    hours: Hours, zones: list[str], now: datetime
) -> None:
    now = now.replace(microsecond=0)
    callee = tuple(zones)
    assert is_open(hours, callee, now) == clock_shows_an_hour_of(hours, callee, now)
    found = next_opening(hours, callee, now)
    # Windows begin and clocks change on whole minutes: the second of `now`, then every minute, misses nothing.
    moment, end = now, found or now + HORIZON - timedelta(days=1)
    while moment < end:
        assert not clock_shows_an_hour_of(hours, callee, moment), moment
        moment = moment.replace(second=0) + timedelta(minutes=1)
    if found is not None:
        assert clock_shows_an_hour_of(hours, callee, found)
        assert found == now or not clock_shows_an_hour_of(hours, callee, found - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-20T08:59:59+01:00", "2026-11-20T09:00:00+01:00"),
        ("2026-11-20T09:00:00+01:00", "2026-11-20T09:00:00+01:00"),
        ("2026-11-20T17:59:59+01:00", "2026-11-20T17:59:59+01:00"),
        ("2026-11-20T18:00:00+01:00", "2026-11-23T09:00:00+01:00"),
    ],
)
def test_a_window_is_open_from_its_first_second_and_closed_at_its_end(now: str, expected: str) -> None:
    assert next_opening(OFFICE, ("Europe/Berlin",), at(now)) == at(expected)


def test_hours_that_are_left_out_do_not_come_and_hours_that_come_twice_come_twice() -> None:
    new_york = ("America/New_York",)
    # 2026-03-08: 02:00 to 03:00 is left out; 2026-11-01: 01:00 to 02:00 comes twice.
    assert next_opening(NIGHT, new_york, at("2026-03-07T03:00-05:00")) == at("2026-03-09T02:00-04:00")
    twice = Hours((Window(EVERY_DAY, 60, 120),))
    assert all(is_open(twice, new_york, at(f"2026-11-01T01:59:59{offset}")) for offset in ("-04:00", "-05:00"))
    assert next_opening(twice, new_york, at("2026-11-01T02:00-05:00")) == at("2026-11-02T01:00-05:00")


def test_a_day_that_a_zone_leaves_out_opens_no_window() -> None:
    fridays = Hours((Window(frozenset({5}), 9 * 60, 18 * 60),))
    # Apia went from Thursday the 29th to Saturday the 31st of December 2011.
    assert next_opening(fridays, ("Pacific/Apia",), at("2011-12-26T00:00Z")) == at("2012-01-06T09:00+14:00")


def test_a_number_that_may_be_in_several_zones_waits_for_all_of_them() -> None:
    both = ("America/New_York", "America/Los_Angeles")
    assert next_opening(OFFICE, both, at("2026-11-20T09:00-05:00")) == at("2026-11-20T12:00-05:00")
    assert not is_open(OFFICE, both, at("2026-11-20T18:00-05:00"))
    # Their days have no hour in common.
    assert next_opening(OFFICE, ("Pacific/Guam", "America/New_York"), at("2026-11-20T09:00Z")) is None


@pytest.mark.parametrize("zones", [(), ("Etc/Unknown",), ("Europe/Berlin", "No/Where")])
def test_a_number_that_tells_no_zone_is_never_called_by_the_callees_clock(zones: tuple[str, ...]) -> None:
    always = Hours((Window(EVERY_DAY, 0, 1440),))
    now = at("2026-11-20T12:00Z")
    assert not is_open(always, zones, now)
    assert next_opening(always, zones, now) is None
    by_the_campaigns = Hours(always.windows, zone="Europe/Berlin")
    assert is_open(by_the_campaigns, zones, now)


def test_from_its_end_on_a_campaign_calls_nobody() -> None:
    end = at("2026-11-20T12:00Z")
    ending = Hours(zone=None, not_after=end)
    assert is_open(ending, (), end - timedelta(microseconds=1))
    assert not is_open(ending, (), end)
    until = Hours(OFFICE.windows, not_after=at("2026-11-23T09:00+01:00"))
    assert next_opening(until, ("Europe/Berlin",), at("2026-11-20T18:00+01:00")) is None


def test_a_schedule_is_read_as_it_is_written() -> None:
    spec = Campaign.of(BODY).spec
    assert hours_of(spec) is None
    text = {
        "zone": "Campaign",
        "windows": [{"days": ["Mon", "Sun"], "from": "00:00", "to": "24:00"}],
        "notAfter": "2026-12-31T01:00:00+01:00",
    }
    hours = hours_of(spec.model_copy(update={"schedule": Schedule.model_validate(text), "time_zone": "Europe/Berlin"}))
    assert hours == Hours((Window(frozenset({1, 7}), 0, 1440),), "Europe/Berlin", at("2026-12-31T00:00Z"))
    assert hours.document() == {
        "zone": "Europe/Berlin",
        "notAfter": "2026-12-31T00:00:00+00:00",
        "windows": [{"days": [1, 7], "from": 0, "to": 1440}],
    }
    assert list(Day) == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
