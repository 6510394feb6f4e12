"""Money in micros, prices, worst cases."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.money import MoneyError, format_micros, micros_up, parse_micros


@given(st.integers(min_value=0, max_value=999_999_999_999_999))
def test_what_is_written_is_read_back(micros: int) -> None:
    assert parse_micros(format_micros(micros)) == micros


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0", 0), ("0.90", 900_000), ("25.00", 25_000_000), ("0.000001", 1), ("999999999", 999_999_999_000_000)],
)
def test_amounts_as_the_api_writes_them(text: str, micros: int) -> None:
    assert parse_micros(text) == micros


@pytest.mark.parametrize("text", ["", "-1", "1,5", "01", "1.", ".5", "1.1234567", "1e3", "$1", "9999999999", "1 "])
def test_what_is_not_money_is_refused(text: str) -> None:
    with pytest.raises(MoneyError, match="write it like"):
        parse_micros(text)


def test_amounts_for_people_have_two_decimals_at_least() -> None:
    assert [format_micros(item) for item in (0, 36_000, 900_000, -40_000)] == ["0.00", "0.036", "0.90", "-0.04"]


def test_a_cost_is_never_understated() -> None:
    assert micros_up(Decimal("0.0000001")) == 1
