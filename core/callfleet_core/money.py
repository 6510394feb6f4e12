"""Money as integer micros (1 unit of currency = 1,000,000 micros), never a float."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

MICROS_PER_UNIT = 1_000_000
# The CRD's own pattern (api.md): at most nine digits before the point, six after it.
MONEY_PATTERN = r"^(0|[1-9]\d{0,8})(\.\d{1,6})?$"


class MoneyError(ValueError):
    """An amount that is not money as the API writes it."""


def parse_micros(text: str) -> int:
    """Micros of an amount as the API writes it, such as "0.90" → 900000.

    Raises MoneyError when the text does not match MONEY_PATTERN.
    """
    if not re.fullmatch(MONEY_PATTERN, text):
        raise MoneyError(f'{text!r} is not an amount of money: write it like "25.00", with at most 6 decimals')
    return int(Decimal(text) * MICROS_PER_UNIT)


def format_micros(micros: int) -> str:
    """An amount for people and for the API: at least two decimals, no more than needed, e.g. 36000 → "0.036"."""
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def micros_up(amount: Decimal) -> int:
    """Micros of a decimal amount in currency units, rounded up: a cost is never understated."""
    return int((amount * MICROS_PER_UNIT).to_integral_value(rounding=ROUND_CEILING))
