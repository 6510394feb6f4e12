"""Which accounts lack the money that a session waits for, as far as the objects tell. Pure.

A session's status says how much is missing, not where. But all accounts that cover a call must hold the same for it:
that is at most the shortfall and what any of them has left, and whichever has less left than that lacks it. What is
left of a Campaign's day and month, and of the installation's limits, no status says: these are named where nothing that
is told lacks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from callfleet_core.api.callsession import Reason
from callfleet_core.money import format_micros, micros_up
from callfleet_core.windows import TimeZoneError, WindowKind
from callfleet_operator.objects import Budget, Campaign, Session, parse_time
from callfleet_operator.plan.cluster import Cluster
from callfleet_operator.plan.limits import Owner, limits_now, owners
from callfleet_operator.plan.terms import ceiling_micros


@dataclass(frozen=True)
class Window:
    """A limit of a Budget or Campaign, in its currency, and what is used of it; None: no status says.

    `end`: None for one that lasts for ever.
    """

    owner: str
    name: str
    kind: str
    limit: str
    held: str | None
    spent: str | None
    end: datetime | None

    def left_micros(self, reason: str) -> int:
        """What it has, or would have once all that is held has come back, where that is the trouble."""
        held = 0 if reason == Reason.BUDGET_EXHAUSTED else _micros(self.held)
        return _micros(self.limit) - _micros(self.spent) - held


@dataclass(frozen=True)
class Lack:
    """The owners of the accounts that lack the money, and the windows that show it."""

    owners: frozenset[Owner] = frozenset()
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Books:
    """What the objects tell of all accounts that cover a campaign's calls."""

    campaign: Campaign
    owners: tuple[Owner, ...]
    windows: tuple[Window, ...]
    # The most that is, or was, held for one of its calls.
    most_held_micros: int | None

    @classmethod
    def of(cls, cluster: Cluster, campaign: Campaign, now: datetime) -> Books:
        """A campaign's books."""
        covering = owners(campaign, cluster.covering)
        budgets = [item for item in cluster.budgets if ("Budget", item.meta.name) in covering]
        windows = (*_own_windows(campaign, now), *(window for item in budgets for window in _windows(item)))
        attempts = [item.status.get("attempt") for item in cluster.sessions if item.spec.campaign == campaign.meta.name]
        held = [_micros(attempt["held"]) for attempt in attempts if attempt]
        return cls(campaign, tuple(covering), windows, max(held, default=None))

    def lacking(self, session: Session) -> Lack:
        """Where money is missing for one of its sessions; all of its Budgets' windows are shown beside."""
        reason = session.status.get("reason") or ""
        told = [item for item in self.windows if item.spent is not None]
        need = self._need_micros(session, told)
        possible = [item for item in self.windows if _may_lack(item, session)]
        short = [item for item in possible if item in told and item.left_micros(reason) < need]
        short = short or [item for item in possible if item not in told]
        found = {(item.owner, item.name) for item in short} or {*self.owners} - {self.owners[0]}
        return Lack(frozenset(found), tuple(item for item in self.windows if item.owner == "Budget" or item in short))

    def _need_micros(self, session: Session, told: list[Window]) -> int:
        """The most that must be held for the call."""
        status = session.status
        missing = max(_micros(status.get("shortfall")), 1)
        bounds = [missing + item.left_micros(status["reason"]) for item in told]
        ceiling = ceiling_micros(session, self.campaign)
        # Where something is not told, the bounds may be far off: others of its calls cost about the same.
        all_told = len(told) == len(self.windows) and {*self.owners[1:]} <= {(item.owner, item.name) for item in told}
        likely = None if all_told else self.most_held_micros
        bounds += [] if ceiling is None else [ceiling]
        bounds += [] if likely is None else [max(likely, missing)]
        return min(bounds, default=missing)


def _may_lack(window: Window, session: Session) -> bool:
    """Whether a wait for this reason, and until then, can be for that window."""
    retry_at = session.status.get("retryAt")
    if session.status.get("reason") == Reason.BUDGET_HELD:
        return window.held is None or _micros(window.held) > 0
    return not retry_at or (window.end is not None and window.end <= parse_time(retry_at))


def _own_windows(campaign: Campaign, now: datetime) -> Iterator[Window]:
    spec, name = campaign.spec, campaign.meta.name
    try:
        limits = limits_now(spec.limits, spec.time_zone, now)
    except TimeZoneError:
        return  # it stalls, and says so
    for window, limit in limits.items():
        if limit is not None:
            used = (campaign.status.get("money") or {}) if window.kind is WindowKind.TOTAL else {}
            kind, text = window.kind.value, format_micros(limit)
            yield Window("Campaign", name, kind, text, used.get("held"), used.get("spent"), window.end)


def _windows(budget: Budget) -> Iterator[Window]:
    """A Budget's, as its status says them."""
    name, windows = budget.meta.name, budget.status.get("windows") or []
    for item in windows:
        end: Any = item.get("end")
        yield Window(
            "Budget", name, item["kind"], item["limit"], item["held"], item["spent"], parse_time(end) if end else None
        )


def _micros(text: str | None) -> int:
    """Micros of an amount in a status; what was corrected may be negative."""
    return micros_up(Decimal(text or 0))
