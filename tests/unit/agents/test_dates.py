"""When, relative to a Sunday in November 2026."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_worker.answers.dates import parse_date_range

TODAY = date(2026, 11, 22)
DATES = [
    ("In the next three months.", "2026-11-22/2027-02-22"),
    ("This summer.", "2027-06-01/2027-08-31"),
    ("By March.", "2026-11-22/2027-03-31"),
    ("As soon as possible.", "2026-11-22/2026-12-22"),
    ("ASAP.", "2026-11-22/2026-12-22"),
    ("Next year.", "2027-01-01/2027-12-31"),
    ("In about six months.", "2027-05-22/2027-06-21"),
    ("Within 6 months.", "2026-11-22/2027-05-22"),
    ("Two to three months.", "2027-01-22/2027-02-22"),
    ("By the end of the year.", "2026-11-22/2026-12-31"),
    ("End of March.", "2027-03-21/2027-03-31"),
    ("Before Christmas.", "2026-11-22/2026-12-24"),
    ("March or April.", "2027-03-01/2027-04-30"),
    ("Between March and May.", "2027-03-01/2027-05-31"),
    ("March 15th.", "2027-03-15/2027-03-15"),
    ("The 3rd of June 2027.", "2027-06-03/2027-06-03"),
    ("Sometime in 2027.", "2027-01-01/2027-12-31"),
    ("Next month.", "2026-12-01/2026-12-31"),
    ("In a couple of weeks.", "2026-12-06/2026-12-12"),
    ("In a few months.", "2027-02-22/2027-03-21"),
    ("Half a year.", "2027-05-22/2027-06-21"),
    ("A year and a half.", "2028-05-22/2028-06-21"),
    ("Next spring.", "2027-03-01/2027-05-31"),
    ("Maybe in May.", "2027-05-01/2027-05-31"),
    ("Tomorrow.", "2026-11-23/2026-11-23"),
    ("Next Monday.", "2026-11-23/2026-11-23"),
    ("The first quarter of next year.", "2027-01-01/2027-03-31"),
    ("The second half of next year.", "2027-07-01/2027-12-31"),
    ("Later this year.", "2026-11-22/2026-12-31"),
    ("12/15/2026", "2026-12-15/2026-12-15"),
    ("Before summer.", "2026-11-22/2027-05-31"),
    ("In June 2027.", "2027-06-01/2027-06-30"),
    ("Over the next year.", "2026-11-22/2027-11-22"),
    ("Next month, no, in March.", "2027-03-01/2027-03-31"),
    ("Right away.", "2026-11-22/2026-12-22"),
    ("Winter.", "2026-12-01/2027-02-28"),
]
NO_DATE = [
    "",
    "I don't know.",
    "No rush.",
    "Never.",
    "I may move.",
    "I'm not sure.",
    "A condo.",
    "Yes.",
    "It depends.",
    "Whenever.",
    "Last year.",
    "In 1999.",
]


@pytest.mark.parametrize(("heard", "value"), DATES)
def test_a_time_is_understood(heard: str, value: str) -> None:
    answer = parse_date_range(heard, TODAY)
    assert answer is not None
    assert answer.value == value


@pytest.mark.parametrize("heard", NO_DATE)
def test_no_time_is_made_up(heard: str) -> None:
    assert parse_date_range(heard, TODAY) is None


@given(st.text(max_size=200), st.dates(date(2020, 1, 1), date(2040, 12, 31)))
def test_any_text_on_any_day_is_survived(heard: str, today: date) -> None:
    answer = parse_date_range(heard, today)
    if answer is not None:
        start, end = (date.fromisoformat(part) for part in answer.value.split("/"))
        assert start <= end


@given(
    st.sampled_from(["in", "by", "before", "after", "within", "early", "the end of", "next", "this", "between"]),
    st.sampled_from(
        [
            "march",
            "summer",
            "2 months",
            "next year",
            "friday",
            "christmas",
            "2031",
            "february 30",
            "the year",
            "9999 weeks",
        ]
    ),
    st.dates(date(2020, 1, 1), date(2040, 12, 31)),
)
def test_any_phrase_is_a_forward_range_or_nothing(how: str, when: str, today: date) -> None:
    answer = parse_date_range(f"{how} {when}", today)
    if answer is not None:
        start, end = (date.fromisoformat(part) for part in answer.value.split("/"))
        assert start <= end
        assert end >= today
