"""What a call costs: the worst case that is held before it is dialled, and the actual that is settled after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from callfleet_core.errors import NoPriceError
from callfleet_core.money import micros_up
from callfleet_core.pricing.book import Direction, PriceBook, PriceList, Rate

SECONDS_A_MINUTE = 60
PER_THOUSAND = 1000
# From the hold to begin_dial at the latest: a grant expires after this long (docs/architecture.md).
GRANT_LASTS = timedelta(seconds=120)


@dataclass(frozen=True)
class CostLine:
    """One line of a call's cost. `quantity` is in the meter's own unit; in a hold it is the meter's cap.

    The amount is in micros of the price list's currency, rounded up: a cost is never understated.
    """

    meter: str
    quantity: Decimal
    amount_micros: int


@dataclass(frozen=True)
class CallBounds:
    """What bounds a call before it is dialled: no meter may run beyond its bound. Times are in seconds.

    `transfer_limit_s`: the time limit of a transfer's second leg to `transfer_to`; 0: no transfer.
    `premium_characters`: of a hosted voice, speculation that nobody heard included.
    """

    number: str
    time_limit_s: int
    direction: Direction = "outbound"
    streams: bool = True
    machine_detection: bool = False
    recording: bool = False
    transfer_to: str = ""
    transfer_limit_s: int = 0
    hosted_stt: bool = False
    premium_characters: int = 0
    llm_tokens: int = 0


@dataclass(frozen=True)
class CallUsage:
    """What a call used, each meter on its own. Times are in seconds; 0 for what did not happen."""

    number: str
    duration_s: int
    direction: Direction = "outbound"
    stream_s: int = 0
    detected: bool = False
    recorded_s: int = 0
    transfer_to: str = ""
    transfer_s: int = 0
    hosted_stt_s: int = 0
    premium_characters: int = 0
    llm_tokens: int = 0


class CostCalculator:
    """Costs by a price book. One set of rules gives both the worst case and the actual, so that they cannot drift."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    @property
    def currency(self) -> str:
        """What all amounts are in."""
        return self._book.currency

    def worst_case(self, bounds: CallBounds, now: datetime) -> list[CostLine]:
        """A line with its cap for each meter that the call may run, by the dearest list that may be in force when it
        is begun. Raises NoPriceError for a destination without a rate.

        The carrier ends a call *at* its limit and bills the whole of it, so the limit itself is what rounds up.
        """
        usage = CallUsage(
            number=bounds.number,
            duration_s=bounds.time_limit_s,
            direction=bounds.direction,
            stream_s=bounds.time_limit_s if bounds.streams else 0,
            detected=bounds.machine_detection,
            recorded_s=bounds.time_limit_s if bounds.recording else 0,
            transfer_to=bounds.transfer_to,
            transfer_s=bounds.transfer_limit_s,
            hosted_stt_s=bounds.time_limit_s if bounds.hosted_stt else 0,
            premium_characters=bounds.premium_characters,
            llm_tokens=bounds.llm_tokens,
        )
        candidates = [list(_lines(usage, prices)) for prices in self._book.between(now, now + GRANT_LASTS)]
        return max(candidates, key=total_micros)

    def actual(self, usage: CallUsage, begun: datetime) -> list[CostLine]:
        """A line for each meter that ran, by the list of the day on which the call was begun. Raises NoPriceError."""
        return list(_lines(usage, self._book.at(begun)))


def total_micros(lines: Sequence[CostLine]) -> int:
    """The sum of the lines."""
    return sum(line.amount_micros for line in lines)


def _lines(usage: CallUsage, prices: PriceList) -> Iterator[CostLine]:
    if usage.duration_s > 0:
        yield _minutes("carrier_voice_minutes", usage.duration_s, _rate(prices, usage.direction, usage.number))
    carrier, vendors = prices.carrier, prices.vendors
    yield from _whole_minutes("carrier_media_stream_minutes", usage.stream_s, carrier.media_stream_per_minute)
    yield from _whole_minutes("carrier_recording_minutes", usage.recorded_s, carrier.recording_per_minute)
    if usage.detected:
        yield _line("carrier_machine_detections", Decimal(1), carrier.machine_detection_per_call)
    if usage.transfer_s > 0:
        yield _minutes("carrier_transfer_minutes", usage.transfer_s, _rate(prices, "outbound", usage.transfer_to))
    yield from _whole_minutes("hosted_stt_minutes", usage.hosted_stt_s, vendors.whisper_stt_per_minute)
    yield from _thousands(
        "premium_tts_characters", usage.premium_characters, vendors.elevenlabs_tts_per_1000_characters
    )
    yield from _thousands("llm_tokens", usage.llm_tokens, vendors.ollama_llm_per_1000_tokens)


def _rate(prices: PriceList, direction: Direction, number: str) -> Rate:
    rate = prices.rate_for(direction, number)
    if rate is None:
        raise NoPriceError("the price list has no rate for this destination: add its prefix to the price list")
    return rate


def _minutes(meter: str, duration_s: int, rate: Rate) -> CostLine:
    return _line(meter, Decimal(rate.billed_s(duration_s)) / SECONDS_A_MINUTE, rate.per_minute)


def _whole_minutes(meter: str, duration_s: int, per_minute: Decimal) -> Iterator[CostLine]:
    if duration_s > 0:
        yield _line(meter, Decimal(-(-duration_s // SECONDS_A_MINUTE)), per_minute)


def _thousands(meter: str, quantity: int, per_thousand: Decimal) -> Iterator[CostLine]:
    if quantity > 0:
        yield _line(meter, Decimal(quantity), per_thousand / PER_THOUSAND)


def _line(meter: str, quantity: Decimal, price: Decimal) -> CostLine:
    return CostLine(meter, quantity, micros_up(quantity * price))
