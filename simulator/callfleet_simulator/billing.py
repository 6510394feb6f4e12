"""Billing by the started minute, from the simulator's own price table."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files

from callfleet_simulator.calls import Call

MICROS = 1_000_000


@dataclass(frozen=True)
class Prices:
    """Prices in micros (millionths) of `currency`."""

    currency: str
    voice_micros_per_min: int
    stream_micros_per_min: int
    amd_micros_per_call: int


def load_prices() -> Prices:
    """The table shipped beside this file."""
    table = tomllib.loads(files("callfleet_simulator").joinpath("prices.toml").read_text("utf-8"))
    per_minute = table["per_minute"]
    return Prices(
        currency=table["currency"],
        voice_micros_per_min=int(Decimal(per_minute["calls_outbound"]) * MICROS),
        stream_micros_per_min=int(Decimal(per_minute["media_streams"]) * MICROS),
        amd_micros_per_call=int(Decimal(table["per_call"]["machine_detection"]) * MICROS),
    )


def started_minutes(seconds: float) -> int:
    """Whole minutes billed for so many seconds: at least one."""
    return max(1, -(-int(-(-seconds // 1)) // 60))


def price_text(micros: int) -> str:
    """A call's price as Twilio writes it: a negative amount with five decimals."""
    amount = Decimal(micros) / MICROS
    return f"{-amount if micros else amount:.5f}"


def bill(call: Call, prices: Prices, stream_seconds: list[float]) -> None:
    """Writes the minutes and stream charges of an ended call; its connectivity price is for `price_micros`.

    An unanswered call costs nothing. Each media stream is billed by its own started minutes, machine detection by the
    call.
    """
    if not call.answered:
        return
    call.billed_minutes = started_minutes(call.duration_s or 0)
    call.stream_minutes = sum(started_minutes(seconds) for seconds in stream_seconds)
    call.amd_micros = prices.amd_micros_per_call if call.answered_by is not None else 0
    call.stream_micros = call.stream_minutes * prices.stream_micros_per_min


def connectivity_micros(call: Call, prices: Prices) -> int:
    """The price of the call itself, in micros; appears in the resource a little after the end."""
    return call.billed_minutes * prices.voice_micros_per_min
