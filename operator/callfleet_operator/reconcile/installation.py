"""The installation's own account: one daily and one monthly limit for all calls that no Budget covers (C2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from callfleet_core.errors import CallFleetError
from callfleet_core.ledger import LimitResult, account_key
from callfleet_core.money import parse_micros
from callfleet_core.windows import Window, WindowKind, time_zone, window_at
from callfleet_operator.context import Context
from callfleet_operator.plan.limits import MISMATCHES, UNCOVERED

EVERY_S = 5.0
KIND, NAME = UNCOVERED


class InstallationError(CallFleetError):
    """What the installation is set to cannot be put in force."""


async def reconcile(context: Context) -> None:
    """Puts the environment's limits in force for today and this month. Raises InstallationError."""
    results = await put_in_force(context, context.now())
    if wrong := results & MISMATCHES.keys():
        reasons = "; ".join(": ".join(MISMATCHES[each]) for each in sorted(wrong))
        raise InstallationError(f"the limits of uncovered calls are not in force: {reasons}")


async def put_in_force(context: Context, at: datetime) -> set[LimitResult]:
    """Puts the environment's limits in force for the day and the month of an instant; what became of them."""
    return {await _set(context, window, limit_micros) for window, limit_micros in _limits(context, at).items()}


async def _set(context: Context, window: Window, limit_micros: int) -> LimitResult:
    return await context.ledger.set_limit(
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


def keys(context: Context, at: datetime) -> tuple[str, ...]:
    """The keys of its accounts at an instant."""
    return tuple(account_key("", KIND, NAME, window) for window in _limits(context, at))


def _limits(context: Context, at: datetime) -> Mapping[Window, int]:
    settings = context.settings
    zone = time_zone(settings.callfleet_time_zone)
    return {
        window_at(WindowKind.DAILY, zone, at): parse_micros(settings.daily_budget_limit),
        window_at(WindowKind.MONTHLY, zone, at): parse_micros(settings.monthly_budget_limit),
    }
