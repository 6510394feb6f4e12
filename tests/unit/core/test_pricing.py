"""Prices by destination and day, worst cases that cover every actual, and when the better voice is worth it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callfleet_core.errors import NoPriceError, PricingError
from callfleet_core.pricing import (
    CallBounds,
    CallUsage,
    CostCalculator,
    PremiumPolicy,
    PriceBook,
    PriceList,
    Tier,
    choose_tier,
    load_prices,
    total_micros,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
US, BERLIN = "+15550100001", "+4930000000"
SHIPPED = CostCalculator(load_prices())


def price_list(valid_from: date = date(2026, 1, 1), **changes: Any) -> PriceList:
    base: dict[str, Any] = {
        "valid_from": valid_from,
        "currency": "USD",
        "rate": [
            {"direction": "outbound", "prefix": "+49", "per_minute": "0.02", "minimum_s": 1, "increment_s": 1},
            {"direction": "outbound", "prefix": "+4915", "per_minute": "0.10", "minimum_s": 30, "increment_s": 6},
            {"direction": "outbound", "prefix": "+1", "per_minute": "0.014"},
        ],
        "carrier": {
            "media_stream_per_minute": "0.004",
            "recording_per_minute": "0.0025",
            "machine_detection_per_call": "0.0075",
        },
        "vendors": {
            "whisper_stt_per_minute": "0.006",
            "piper_tts_per_1000_characters": "0",
            "elevenlabs_tts_per_1000_characters": "0.30",
            "ollama_llm_per_1000_tokens": "0",
        },
    }
    return PriceList.model_validate({**base, **changes})


def cost(usage: CallUsage, prices: PriceList | None = None) -> int:
    return total_micros(CostCalculator(PriceBook([prices or price_list()])).actual(usage, NOW))


@pytest.mark.parametrize(
    ("seconds", "micros"), [(0, 0), (1, 18_000), (60, 18_000), (61, 36_000), (120, 36_000), (121, 54_000)]
)
def test_calls_are_billed_by_the_started_minute(seconds: int, micros: int) -> None:
    assert total_micros(SHIPPED.actual(CallUsage(US, seconds, stream_s=seconds), NOW)) == micros


@pytest.mark.parametrize(
    ("number", "seconds", "micros"),
    [
        ("+4930111", 1, 334),  # a second at 0.02 a minute, rounded up
        ("+4930111", 90, 30_000),
        ("+4915111", 1, 50_000),  # at least 30 s
        ("+4915111", 31, 60_000),  # then by 6 s
        ("+4915111", 36, 60_000),
        ("+4915111", 37, 70_000),
        ("+4915111", 0, 0),  # nobody answered
    ],
)
def test_the_longest_prefix_counts_with_its_own_rounding(number: str, seconds: int, micros: int) -> None:
    assert cost(CallUsage(number, seconds)) == micros


def test_every_meter_has_a_line() -> None:
    usage = CallUsage(
        US, 61, stream_s=59, detected=True, recorded_s=61, transfer_to=BERLIN, transfer_s=60, hosted_stt_s=61,
        premium_characters=1500, llm_tokens=900,
    )  # fmt: skip
    lines = CostCalculator(PriceBook([price_list()])).actual(usage, NOW)
    assert {line.meter: (str(line.quantity), line.amount_micros) for line in lines} == {
        "carrier_voice_minutes": ("2", 28_000),
        "carrier_media_stream_minutes": ("1", 4_000),
        "carrier_recording_minutes": ("2", 5_000),
        "carrier_machine_detections": ("1", 7_500),
        "carrier_transfer_minutes": ("1", 20_000),
        "hosted_stt_minutes": ("2", 12_000),
        "premium_tts_characters": ("1500", 450_000),
        "llm_tokens": ("900", 0),
    }


@given(
    st.data(),
    st.integers(min_value=1, max_value=14_400),
    st.sampled_from([US, "+4930111", "+4915111"]),
    st.integers(min_value=0, max_value=5_000),
)
def test_the_worst_case_covers_every_call_within_its_bounds(
    data: st.DataObject, limit_s: int, number: str, characters: int
) -> None:
    calculator = CostCalculator(PriceBook([price_list(), price_list(date(2026, 11, 23), currency="USD")]))
    bounds = CallBounds(
        number, limit_s, machine_detection=True, recording=True, transfer_to=BERLIN, transfer_limit_s=limit_s,
        hosted_stt=True, premium_characters=characters,
    )  # fmt: skip

    def within(most: int) -> int:
        return data.draw(st.integers(min_value=0, max_value=most))

    usage = CallUsage(
        number, within(limit_s), stream_s=within(limit_s), detected=data.draw(st.booleans()),
        recorded_s=within(limit_s), transfer_to=BERLIN, transfer_s=within(limit_s), hosted_stt_s=within(limit_s),
        premium_characters=within(characters),
    )  # fmt: skip
    begun = NOW + timedelta(seconds=within(120))
    worst = {line.meter: line for line in calculator.worst_case(bounds, NOW)}
    lines = calculator.actual(usage, begun)
    assert total_micros(lines) <= total_micros(list(worst.values()))
    assert all(line.quantity <= worst[line.meter].quantity for line in lines)  # no meter beyond its cap


def test_a_call_held_before_midnight_is_covered_by_tomorrows_prices() -> None:
    dearer = price_list(date(2026, 11, 23), rate=[{"direction": "outbound", "prefix": "+1", "per_minute": "0.05"}])
    calculator = CostCalculator(PriceBook([price_list(), dearer]))
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    bounds, usage = CallBounds(US, 60, streams=False), CallUsage(US, 60)
    assert total_micros(calculator.worst_case(bounds, midnight - timedelta(seconds=60))) == 50_000
    assert total_micros(calculator.worst_case(bounds, midnight - timedelta(seconds=121))) == 14_000
    assert total_micros(calculator.actual(usage, midnight - timedelta(seconds=1))) == 14_000
    assert total_micros(calculator.actual(usage, midnight)) == 50_000


def test_a_destination_without_a_rate_has_no_price() -> None:
    with pytest.raises(NoPriceError, match="add its prefix"):
        SHIPPED.worst_case(CallBounds("+4930111", 60), NOW)
    with pytest.raises(NoPriceError):
        SHIPPED.worst_case(CallBounds("", 60), NOW)


def test_days_before_the_first_list_have_no_prices() -> None:
    with pytest.raises(PricingError, match="no price list is in force on 2025-12-31"):
        load_prices().at(datetime(2025, 12, 31, 23, tzinfo=UTC))


BAD = {
    "no list": ("", "there is no price list"),
    "a float": ("[[list]]\nvalid_from = 2026-01-01\ncurrency = 'USD'\nrate = []\n", "rate"),
    "not TOML": ("[[list", "not TOML"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD.keys())
def test_a_bad_price_file_is_told_apart(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(PricingError, match=told):
        load_prices(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rate": [{"direction": "outbound", "prefix": "+1", "per_minute": 0.014}]}, "quoted amount"),
        ({"rate": [{"direction": "outbound", "prefix": "1", "per_minute": "0.01"}]}, "prefix"),
        ({"rate": [{"direction": "outbound", "prefix": "+1", "per_minute": "-0.01"}]}, "greater than or equal"),
        ({"rate": [{"direction": "outbound", "prefix": "+1", "per_minute": "0.01"}] * 2}, "two rates"),
        ({"carrier": {"media_stream_per_minute": "0.004"}}, "recording_per_minute"),
        ({"discount": "0.1"}, "discount"),
    ],
)
def test_a_bad_list_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        price_list(**changes)


def test_lists_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(PricingError, match="same valid_from"):
        PriceBook([price_list(), price_list()])
    with pytest.raises(PricingError, match="nothing is converted"):
        PriceBook([price_list(), price_list(date(2026, 2, 1), currency="EUR")])


@pytest.mark.parametrize(
    ("policy", "score", "characters", "left", "tier", "reason"),
    [
        ("Never", "1.00", 10, 1000, Tier.STANDARD, "policy"),
        ("HotLeads", None, 10, 1000, Tier.STANDARD, "score"),
        ("HotLeads", "0.69", 10, 1000, Tier.STANDARD, "score"),
        ("HotLeads", "0.70", 10, 1000, Tier.PREMIUM, "wanted"),
        ("HotLeads", "0.90", 11, 10, Tier.STANDARD, "budget"),
        ("Always", None, 10, 10, Tier.PREMIUM, "wanted"),
        ("Always", None, 10, 9, Tier.STANDARD, "budget"),
    ],
)
def test_the_better_voice_is_for_those_who_are_worth_it_and_never_beyond_the_cap(
    policy: str, score: str | None, characters: int, left: int, tier: Tier, reason: str
) -> None:
    decision = choose_tier(
        PremiumPolicy(policy),
        lead_score=Decimal(score) if score else None,
        characters=characters,
        characters_left=left,
    )
    assert (decision.tier, decision.reason) == (tier, reason)
