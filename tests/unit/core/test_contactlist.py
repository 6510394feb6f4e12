"""Contacts as CSV: taken whole or not at all, with the rows that are wrong."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.contactlist import ContactListError, parse_contacts

HEADER = "phone,name,consent_kind,consent_source,consent_time\n"
GOOD = '+15550100100,"Doe, Jane",express-written,web form 7,2026-01-15T10:00:00Z\n'


def test_a_list_as_a_spreadsheet_writes_it() -> None:
    contact, other = parse_contacts("\ufeff" + HEADER + GOOD + "+15550100101,,,,\r\n")
    assert (contact.phone, contact.name) == ("+15550100100", "Doe, Jane")
    assert contact.consent is not None
    assert contact.consent.given_at == datetime(2026, 1, 15, 10, tzinfo=UTC)
    assert (other.name, other.consent) == (None, None)


def test_columns_may_be_few_and_in_any_order() -> None:
    assert [item.name for item in parse_contacts("name,phone\nJane,+15550100100\n")] == ["Jane"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line must name the columns"),
        ("number\n1\n", "phone among them"),
        ("phone,shoe_size\n+15550100100,9\n", "unknown"),
        ("phone,phone\n+15550100100,1\n", "named twice"),
        (HEADER, "the list is empty"),
        (HEADER + "5550100,,,,\n", "row 2: a phone number is not in international form"),
        (HEADER + GOOD + GOOD, "row 3: the same number as in row 2"),
        (HEADER + "+15550100100,,written,,\n", "needs all of"),
        (HEADER + "+15550100100,,written,form,yesterday\n", "consent_time is not a time"),
        (HEADER + "+15550100100,,written,form,2026-01-15T10:00:00\n", "has no zone"),
        (HEADER + "+15550100100,Doe, Jane,written,form,2026-01-15T10:00:00Z\n", "more fields than columns"),
        (HEADER + '+15550100100,"Jane\n', "not CSV"),
        (HEADER + f"+15550100100,{'x' * 101},,,\n", "longer than 100"),
        ("phone,time_zone\n+15550100100,CET\n", "row 2: time_zone: there is no such time zone"),
        ("phone,time_zone\n+15550100100,Mars/Olympus\n", "Area/City, such as America/New_York"),
        ("phone,time_zone\n+15550100100,right/Europe/Berlin\n", "no such time zone"),
        (HEADER + "1,,,,\n" * 8, r"\(and 3 more\)"),
    ],
)
def test_a_wrong_list_says_where_and_what_to_change(text: str, message: str) -> None:
    with pytest.raises(ContactListError, match=message):
        parse_contacts(text)


def test_a_contacts_time_zone_is_kept_as_it_is_stated() -> None:
    found = parse_contacts("time_zone,phone\nEurope/Berlin,+15550100100\n,+15550100101\n")
    assert [item.time_zone for item in found] == ["Europe/Berlin", None]


def test_no_error_repeats_a_zone_that_may_be_a_name() -> None:
    with pytest.raises(ContactListError) as raised:
        parse_contacts("phone,time_zone\n+15550100100,Roe/Jane\n")
    assert "Jane" not in str(raised.value)


def test_no_error_repeats_a_person() -> None:
    with pytest.raises(ContactListError) as raised:
        parse_contacts(HEADER + "4412,Jane Roe,,,\n+15550100100,John Roe,written,,\n")
    for word in ("4412", "Jane", "John", "5550100100"):
        assert word not in str(raised.value)


@given(st.text(max_size=300))
def test_whatever_the_file_holds_it_is_read_or_refused(text: str) -> None:
    with suppress(ContactListError):
        assert parse_contacts("phone,name\n" + text)
