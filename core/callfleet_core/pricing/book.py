"""Price lists, each in force from a day on; read from prices.toml and checked whole."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from callfleet_core.errors import PricingError

Direction = Literal["outbound", "inbound"]
MAX_ROUNDING_S = 3600
# As much of a number as a price may depend on, its + included: this much of it is stored where prices are looked up.
LONGEST_PREFIX = 6


def _quoted(value: Any) -> Any:
    """Amounts are quoted in the file: a float has lost digits before anybody could check it."""
    if not isinstance(value, str):
        raise ValueError('write it as a quoted amount, e.g. "0.0140"')  # pydantic turns it into a text
    return value


Amount = Annotated[Decimal, BeforeValidator(_quoted), Field(ge=0, max_digits=18, decimal_places=9)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Model):
    """What a minute to (or from) numbers with a prefix costs, and how the biller rounds."""

    direction: Direction
    prefix: str = Field(pattern=r"^\+[1-9]\d{0,4}$", max_length=LONGEST_PREFIX)
    per_minute: Amount
    minimum_s: int = Field(default=60, ge=0, le=MAX_ROUNDING_S)
    increment_s: int = Field(default=60, ge=1, le=MAX_ROUNDING_S)

    def billed_s(self, duration_s: int) -> int:
        """The seconds that are billed for an answered call of `duration_s`; none for a call that was not answered."""
        if duration_s <= 0:
            return 0
        beyond_s = max(0, duration_s - self.minimum_s)
        return self.minimum_s + -(-beyond_s // self.increment_s) * self.increment_s


class CarrierPrices(_Model):
    """What the carrier charges beside its minutes."""

    media_stream_per_minute: Amount
    recording_per_minute: Amount
    machine_detection_per_call: Amount


class VendorPrices(_Model):
    """Hosted speech and language, at the list's fixed rate (C1)."""

    whisper_stt_per_minute: Amount
    piper_tts_per_1000_characters: Amount
    elevenlabs_tts_per_1000_characters: Amount
    ollama_llm_per_1000_tokens: Amount


class PriceList(_Model):
    """Prices in units of `currency`, in force from the day `valid_from` (UTC)."""

    valid_from: date
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    rate: tuple[Rate, ...] = Field(min_length=1)
    carrier: CarrierPrices
    vendors: VendorPrices

    @model_validator(mode="after")
    def _each_route_once(self) -> PriceList:
        routes = [(rate.direction, rate.prefix) for rate in self.rate]
        if len(set(routes)) < len(routes):
            raise ValueError("a direction and prefix has two rates: keep one of them")
        return self

    def rate_for(self, direction: Direction, number: str) -> Rate | None:
        """The rate of the longest prefix that the number begins with; None where nothing is said about it."""
        fitting = [rate for rate in self.rate if rate.direction == direction and number.startswith(rate.prefix)]
        return max(fitting, key=lambda rate: len(rate.prefix), default=None)


class PriceBook:
    """All price lists of one currency, oldest first."""

    def __init__(self, lists: Sequence[PriceList]) -> None:
        """Raises PricingError where the lists contradict each other."""
        self._lists = sorted(lists, key=lambda item: item.valid_from)
        if not self._lists:
            raise PricingError("there is no price list: add one as [[list]]")
        if len({item.valid_from for item in self._lists}) < len(self._lists):
            raise PricingError("two price lists have the same valid_from: keep one of them")
        if len({item.currency for item in self._lists}) > 1:
            raise PricingError("the price lists are in several currencies: nothing is converted here")

    @property
    def currency(self) -> str:
        """What all amounts are in."""
        return self._lists[0].currency

    def at(self, moment: datetime) -> PriceList:
        """The list in force at a moment. Raises PricingError for one before the first list."""
        day = moment.astimezone(UTC).date()
        valid = [item for item in self._lists if item.valid_from <= day]
        if not valid:
            raise PricingError(f"no price list is in force on {day}: add one with an earlier valid_from")
        return valid[-1]

    def between(self, start: datetime, end: datetime) -> list[PriceList]:
        """Every list in force at some moment from `start` to `end`, oldest first."""
        first, last = self.at(start), self.at(end)
        return [item for item in self._lists if first.valid_from <= item.valid_from <= last.valid_from]


def load_prices(path: Path | None = None) -> PriceBook:
    """The price lists at `path`, or those shipped with core. Raises PricingError naming what is missing or wrong."""
    source = path or resources.files("callfleet_core.pricing") / "prices.toml"
    try:
        data = tomllib.loads(source.read_text())
        lists = [PriceList.model_validate(item) for item in data.get("list", [])]
    except OSError as error:
        raise PricingError(f"the price lists at {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PricingError(f"the price lists are not TOML: {error}") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))
        raise PricingError(f"a price list cannot be used: {'; '.join(problems)}") from error
    return PriceBook(lists)
