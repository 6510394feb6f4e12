"""Money in micros, prices, worst cases."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.errors import PricingError
from callfleet_core.money import MoneyError, format_micros, micros_up, parse_micros
from callfleet_core.pricing import load_prices


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


@pytest.mark.parametrize(
    ("seconds", "micros"), [(0, 0), (1, 18_000), (60, 18_000), (61, 36_000), (120, 36_000), (121, 54_000)]
)
def test_calls_are_billed_by_the_started_minute(seconds: int, micros: int) -> None:
    assert sum(line.amount_micros for line in load_prices().connectivity(seconds)) == micros


@given(st.integers(min_value=1, max_value=14_400), st.integers(min_value=0, max_value=14_400))
def test_the_worst_case_covers_every_call_within_the_limit(limit_s: int, duration_s: int) -> None:
    prices = load_prices()
    actual = sum(line.amount_micros for line in prices.connectivity(min(duration_s, limit_s)))
    assert actual <= prices.worst_case_micros(limit_s)


def test_a_price_list_without_a_price_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('valid_from = 2026-01-01\n[carrier]\nvoice_per_minute = "0.01"\n')
    with pytest.raises(PricingError, match="media_stream_per_minute"):
        load_prices(path)
