"""What a call costs: the worst case that is held before it is dialled, and the actual that is settled after it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any

from callfleet_core.errors import PricingError
from callfleet_core.money import micros_up

SECONDS_PER_BILLED_MINUTE = 60


@dataclass(frozen=True)
class CostLine:
    """One line of a call's cost; the amount is in micros of the price list's currency."""

    meter: str
    quantity: int
    amount_micros: int


@dataclass(frozen=True)
class PriceList:
    """Prices in micros of `currency`, as read from pricing.toml."""

    currency: str
    valid_from: date
    voice_per_minute_micros: int
    media_stream_per_minute_micros: int

    def connectivity(self, duration_s: int) -> list[CostLine]:
        """The carrier's lines of an answered call of `duration_s` seconds, by the started minute; none for 0 s."""
        if duration_s <= 0:
            return []
        minutes = -(-duration_s // SECONDS_PER_BILLED_MINUTE)
        return [
            CostLine("carrier_voice_minutes", minutes, minutes * self.voice_per_minute_micros),
            CostLine("carrier_media_stream_minutes", minutes, minutes * self.media_stream_per_minute_micros),
        ]

    def worst_case_micros(self, time_limit_s: int) -> int:
        """The most a call bounded by `time_limit_s` can cost; local speech and language models cost nothing a call.

        The carrier ends a call *at* its limit and bills the whole of it, so the limit itself is what rounds up.
        """
        return sum(line.amount_micros for line in self.connectivity(time_limit_s))


def load_prices(path: Path | None = None) -> PriceList:
    """The price list at `path`, or the one shipped with core.

    Raises PricingError naming the missing or malformed price.
    """
    text = path.read_text() if path else (resources.files("callfleet_core") / "pricing.toml").read_text()
    data = tomllib.loads(text)
    return PriceList(
        currency=str(data.get("currency", "USD")),
        valid_from=data["valid_from"],
        voice_per_minute_micros=_price(data, "carrier", "voice_per_minute"),
        media_stream_per_minute_micros=_price(data, "carrier", "media_stream_per_minute"),
    )


def _price(data: dict[str, Any], section: str, name: str) -> int:
    try:
        amount = Decimal(data[section][name])
    except (KeyError, InvalidOperation) as error:
        raise PricingError(f"the price list lacks a valid [{section}] {name}: write it as a quoted amount") from error
    if amount < 0:
        raise PricingError(f"the price [{section}] {name} is negative")
    return micros_up(amount)
