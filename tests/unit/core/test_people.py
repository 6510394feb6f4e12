"""Numbers, hashes, names of sessions, and what never reaches a log."""

from __future__ import annotations

from importlib import resources

import pytest
from phonenumbers.tzdata import TIMEZONE_DATA

from callfleet_core.contacts import contact_id, session_name
from callfleet_core.errors import PhoneError
from callfleet_core.logs import mask
from callfleet_core.phone import normalise, number_hash, time_zones, zone_name

KEY = b"k" * 32


def test_the_samples_numbers_are_dialable() -> None:
    assert normalise("+1 555 0100 100") == "+15550100100"


@pytest.mark.parametrize("number", ["", "4441234", "+9", "+4412345678901234567", "call me"])
def test_what_is_no_number_is_refused_without_repeating_it(number: str) -> None:
    with pytest.raises(PhoneError) as raised:
        normalise(number)
    assert number == "" or number not in str(raised.value)


@pytest.mark.parametrize(
    ("number", "zones"),
    [
        ("+12125550101", ("America/New_York",)),
        ("+442079460001", ("Europe/London",)),
        ("+493023125000", ("Europe/Berlin",)),
        ("+15550100100", ()),  # a number of fiction that no country has
        ("+883510000000", ()),  # of no country
    ],
)
def test_a_number_tells_the_zones_of_its_place(number: str, zones: tuple[str, ...]) -> None:
    assert time_zones(number) == zones


def test_every_zone_that_a_number_may_tell_has_the_name_that_it_has_today() -> None:
    lines = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text().splitlines()
    today = {line.split("\t")[2] for line in lines if not line.startswith("#")}
    told = {zone_name(name) for names in TIMEZONE_DATA.values() for name in names}
    assert len(told) > 200
    assert told <= today


def test_a_number_of_no_place_tells_every_zone_of_its_country() -> None:
    assert {"America/New_York", "America/Los_Angeles", "Pacific/Honolulu"} < set(time_zones("+18005550101"))


def test_a_number_has_one_hash_under_one_key() -> None:
    assert number_hash("+15550100100", KEY) == number_hash("+15550100100", KEY)
    assert number_hash("+15550100100", KEY) != number_hash("+15550100100", b"j" * 32)


def test_a_contact_is_its_namespace_and_number() -> None:
    assert contact_id("a", "+15550100100", KEY) != contact_id("b", "+15550100100", KEY)


def test_a_sessions_name_is_deterministic_and_a_valid_object_name() -> None:
    contact = contact_id("sales", "+15550100100", KEY)
    name = session_name("spring-leads", "1", contact)
    assert name == session_name("spring-leads", "1", contact)
    assert name.startswith("spring-leads-1-")
    assert len(name.rsplit("-", 1)[1]) == 13
    assert name == name.lower()


def test_numbers_and_passwords_are_masked_in_logs() -> None:
    text = mask("to +15550100100 by postgresql://user:secret@host/db")
    assert "5550100100" not in text
    assert "secret" not in text
