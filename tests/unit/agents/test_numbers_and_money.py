"""Counts and amounts in the words Whisper hears."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_worker.answers.money import parse_money
from callfleet_worker.answers.numbers import parse_number

HOUSE = Decimal(300_000)
NUMBERS = [
    ("Three.", "3"),
    ("3 bedrooms.", "3"),
    ("I need four bedrooms, please.", "4"),
    ("Two or three.", "2"),
    ("At least three.", "3"),
    ("Three or four bedrooms.", "3"),
    ("One.", "1"),
    ("Just one.", "1"),
    ("A couple.", "2"),
    ("Two, no, three.", "3"),
    ("Three, I mean four.", "4"),
    ("Three. Make that four.", "4"),
    ("Too.", "2"),
    ("For.", "4"),
    ("Free.", "3"),
    ("None.", "0"),
    ("Twenty-five.", "25"),
    ("Two and a half.", "2.5"),
    ("A dozen.", "12"),
    ("Four-bedroom.", "4"),
    ("Um, maybe three.", "3"),
    ("2.", "2"),
    ("Zero.", "0"),
    ("Between two and four.", "2"),
    ("I think 5 would be enough.", "5"),
    ("Three bedrooms and three.", "3"),
    ("One hundred and twenty.", "120"),
]
NO_NUMBER = [
    "",
    "I don't know.",
    "No one.",
    "Many.",
    "A big one.",
    "The first one I see",
    "Yes.",
    "One, two, three, four.",
    "Hello?",
]
AMOUNTS = [
    ("About four hundred thousand dollars.", "400000"),
    ("$450,000.", "450000"),
    ("450K.", "450000"),
    ("450 thousand.", "450000"),
    ("Half a million.", "500000"),
    ("Between 300 and 350 thousand.", "350000"),
    ("1.2 million dollars.", "1200000"),
    ("One point two million.", "1200000"),
    ("Around three hundred fifty thousand.", "350000"),
    ("$300,000 to $350,000.", "350000"),
    ("Three to four hundred thousand.", "400000"),
    ("Up to 500,000 dollars.", "500000"),
    ("Under a million.", "1000000"),
    ("Four fifty.", "450000"),
    ("Three fifty thousand.", "350000"),
    ("Between three hundred and three fifty thousand.", "350000"),
    ("400 grand.", "400000"),
    ("A hundred and fifty grand.", "150000"),
    ("Two million.", "2000000"),
    ("$1.5 million", "1500000"),
    ("Four hundred.", "400000"),
    ("No more than six hundred thousand.", "600000"),
    ("400 ,000 dollars", "400000"),
    ("500 dollars.", "500"),
    ("Four hundred and fifty thousand, for three bedrooms.", "450000"),
    ("A quarter million.", "250000"),
    ("Three hundred, maybe three fifty.", "350000"),
    ("300, no, 400 thousand.", "400000"),
    ("350 to 400K.", "400000"),
    ("Four hundred thousand or so.", "400000"),
    ("2 and a half million", "2500000"),
]
NO_AMOUNT = [
    "",
    "I don't know yet.",
    "As little as possible.",
    "In three months.",
    "Not much.",
    "It depends.",
    "Hello?",
    "Three bedrooms.",
]


@pytest.mark.parametrize(("heard", "value"), NUMBERS)
def test_a_number_is_understood(heard: str, value: str) -> None:
    answer = parse_number(heard)
    assert answer is not None
    assert answer.value == value


@pytest.mark.parametrize("heard", NO_NUMBER)
def test_no_number_is_made_up(heard: str) -> None:
    assert parse_number(heard) is None


@pytest.mark.parametrize(("heard", "value"), AMOUNTS)
def test_an_amount_is_understood(heard: str, value: str) -> None:
    answer = parse_money(heard, HOUSE)
    assert answer is not None
    assert answer.value == value


@pytest.mark.parametrize("heard", NO_AMOUNT)
def test_no_amount_is_made_up(heard: str) -> None:
    assert parse_money(heard, HOUSE) is None


def test_a_bare_number_keeps_its_scale_where_small_amounts_are_meant() -> None:
    answer = parse_money("Four hundred.", Decimal(200))
    assert answer is not None
    assert answer.value == "400"


@given(st.text(max_size=300))
def test_any_text_is_survived(heard: str) -> None:
    for answer in (parse_number(heard), parse_money(heard, HOUSE)):
        assert answer is None or Decimal(answer.value) >= 0
