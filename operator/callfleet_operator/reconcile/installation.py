"""The installation's own account: one daily and one monthly limit for all calls that no Budget covers (C2)."""

from __future__ import annotations

from collections.abc import Mapping

from callfleet_core.ledger import account_key
from callfleet_core.money import parse_micros
from callfleet_core.windows import Window, WindowKind, time_zone, window_at
from callfleet_operator.context import Context

EVERY_S = 5.0
KIND, NAME = "Installation", "uncovered"


async def reconcile(context: Context) -> None:
    """Puts the environment's limits in force for today and this month."""
    for window, limit_micros in _limits(context).items():
        await context.ledger.set_limit(
            namespace="",
            kind=KIND,
            name=NAME,
            window=window,
            currency=context.settings.callfleet_currency,
            limit_micros=limit_micros,
            suspended=False,
            uid=NAME,
            generation=1,
        )


def keys(context: Context) -> tuple[str, ...]:
    """The keys of its accounts now."""
    return tuple(account_key("", KIND, NAME, window) for window in _limits(context))


def _limits(context: Context) -> Mapping[Window, int]:
    settings, now = context.settings, context.now()
    zone = time_zone(settings.callfleet_time_zone)
    return {
        window_at(WindowKind.DAILY, zone, now): parse_micros(settings.daily_budget_limit),
        window_at(WindowKind.MONTHLY, zone, now): parse_micros(settings.monthly_budget_limit),
    }
