"""Which ledger accounts an object's limits make, now. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from callfleet_core.ledger import account_key
from callfleet_core.money import parse_micros
from callfleet_core.windows import TOTAL, TimeZoneError, Window, WindowKind, time_zone, window_at
from callfleet_operator.objects import Budget, Campaign


class WindowLimits(Protocol):
    """Limits by window, as the API writes them."""

    @property
    def daily(self) -> str | None: ...

    @property
    def monthly(self) -> str | None: ...

    @property
    def total(self) -> str | None: ...


def limits_now(limits: WindowLimits, zone_name: str, now: datetime) -> Mapping[Window, int]:
    """The windows that are limited now, and their limits in micros. Raises TimeZoneError."""
    zone = time_zone(zone_name)
    texts = {WindowKind.DAILY: limits.daily, WindowKind.MONTHLY: limits.monthly, WindowKind.TOTAL: limits.total}
    return {window_at(kind, zone, now): parse_micros(text) for kind, text in texts.items() if text is not None}


class InForce(NamedTuple):
    """What PostgreSQL has of an object: its version, and the windows that its limits were put in."""

    uid: str
    generation: int
    windows: tuple[str, ...]


def wanted_in_force(item: Budget | Campaign, now: datetime) -> InForce:
    """What must be in force before anything is held; no windows where there is no such time zone."""
    try:
        windows = tuple(window.key for window in limits_now(item.spec.limits, item.spec.time_zone, now))
    except TimeZoneError:
        windows = ()
    return InForce(*item.meta.version, windows)


def account_keys(
    namespace: str,
    kind: str,
    name: str,
    limits: WindowLimits,
    zone_name: str,
    now: datetime,
    *,
    always_total: bool = False,
) -> tuple[str, ...]:
    """The keys of an object's accounts now; with `always_total` one that only counts, where there is no total limit."""
    windows = list(limits_now(limits, zone_name, now))
    if always_total and TOTAL not in windows:
        windows.append(TOTAL)
    return tuple(account_key(namespace, kind, name, window) for window in windows)
