"""Which ledger accounts an object has, now, and their limits (docs/decisions/0037). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from callfleet_core.ledger import LimitResult, account_key
from callfleet_core.money import parse_micros
from callfleet_core.windows import TimeZoneError, Window, WindowKind, beside, time_zone, window_at
from callfleet_operator.objects import Budget, Campaign, Unreadable

# Whose an account is, inside a namespace: a kind and a name.
Owner = tuple[str, str]
# The installation's own account: all calls that no Budget covers share it.
UNCOVERED: Final[Owner] = ("Installation", "uncovered")
# What keeps an object from being served though the API server took it: reason and message.
MISMATCHES: Final[Mapping[LimitResult, tuple[str, str]]] = {
    LimitResult.CURRENCY_MISMATCH: (
        "CurrencyMismatch",
        "the ledger keeps this name in another currency: a currency cannot be changed, not even by deleting the object;"
        " use another name",
    ),
    LimitResult.TIME_ZONE_MISMATCH: (
        "TimeZoneMismatch",
        "the ledger keeps this name by the midnights of another time zone: until its day, or month, is over there is no"
        " second one; wait, or use another name",
    ),
}


class WindowLimits(Protocol):
    """Limits by window, as the API writes them."""

    @property
    def daily(self) -> str | None: ...

    @property
    def monthly(self) -> str | None: ...

    @property
    def total(self) -> str | None: ...


def limits_now(limits: WindowLimits, zone_name: str, now: datetime) -> Mapping[Window, int | None]:
    """All windows of an object now, and their limits in micros; None: it only counts. Raises TimeZoneError."""
    zone = time_zone(zone_name)
    texts = {WindowKind.DAILY: limits.daily, WindowKind.MONTHLY: limits.monthly, WindowKind.TOTAL: limits.total}
    return {window_at(kind, zone, now): None if text is None else parse_micros(text) for kind, text in texts.items()}


class InForce(NamedTuple):
    """What PostgreSQL has of an object: its version, and the windows that it counts in."""

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


def counting(windows: Iterable[Window], taken: AbstractSet[str]) -> list[Window]:
    """The windows by the names that they have in the ledger; `taken`: those names that another time zone's have."""
    return [beside(window) if window.key in taken else window for window in windows]


def account_keys(
    namespace: str,
    kind: str,
    name: str,
    limits: WindowLimits,
    zone_name: str,
    now: datetime,
    taken: AbstractSet[str] = frozenset(),
) -> tuple[str, ...]:
    """The keys of an object's accounts now."""
    windows = counting(limits_now(limits, zone_name, now), taken)
    return tuple(account_key(namespace, kind, name, window) for window in windows)


def namespace_names(budgets: Iterable[Budget], unreadable: Iterable[Unreadable]) -> dict[str, set[str]]:
    """The names of the Budgets that cover a whole namespace, by namespace.

    One that cannot be read covers it, too, unless it says otherwise: its calls wait.
    """
    names: dict[str, set[str]] = {}
    covering = [item.meta for item in budgets if item.spec.scope == "Namespace"]
    covering += [item.meta for item in unreadable if item.spec.get("scope") != "Referenced"]
    for meta in covering:
        names.setdefault(meta.namespace, set()).add(meta.name)
    return names


def budget_names(campaign: Campaign, covering: Mapping[str, AbstractSet[str]]) -> AbstractSet[str]:
    """The Budgets that must cover a campaign's calls; `covering`: those of whole namespaces, as by namespace_names."""
    return {ref.name for ref in campaign.spec.budget_refs} | covering.get(campaign.meta.namespace, frozenset())


def owners(campaign: Campaign, covering: Mapping[str, AbstractSet[str]]) -> list[Owner]:
    """Whose accounts must all cover a campaign's calls: first its own, then its Budgets', or the installation's."""
    budgets = [("Budget", name) for name in sorted(budget_names(campaign, covering))]
    return [("Campaign", campaign.meta.name), *(budgets or [UNCOVERED])]
