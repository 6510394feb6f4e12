"""A namespace's objects as somebody with their own rights lists them; those of another release are set aside. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

from pydantic import ValidationError

from callfleet_core.api.callsession import TERMINAL_STATES, SessionState
from callfleet_operator.objects import KINDS, Budget, Campaign, Key, Object, Session, Unreadable, problem_of
from callfleet_operator.plan.limits import budget_names, namespace_names

Bodies = Iterable[dict[str, Any]]
# What is more than a reader takes in is left out.
_MOST_OF_A_PROBLEM: Final = 500


@dataclass(frozen=True)
class Unread:
    """An object that this release cannot read, what of it, and how many `more` of its kind there are."""

    kind: str
    name: str
    problem: str
    more: int = 0


@dataclass(frozen=True)
class Cluster:
    """The objects of a namespace; `unreadable`: those that do not fit today's types, as the operator keeps them."""

    campaigns: Sequence[Campaign]
    budgets: Sequence[Budget]
    sessions: Sequence[Session]
    unreadable: Mapping[Key, Unreadable] = field(default_factory=dict)

    @classmethod
    def of(cls, campaigns: Bodies, budgets: Bodies, sessions: Bodies) -> Cluster:
        """Parses bodies; one that cannot be read keeps no other from being explained."""
        aside: dict[Key, Unreadable] = {}

        def read(kind: str, bodies: Bodies) -> Iterator[Any]:
            for body in bodies:
                item = _read(kind, body)
                if isinstance(item, Unreadable):
                    aside[Key(kind, item.meta.namespace, item.meta.name)] = item
                else:
                    yield item

        return cls([*read("Campaign", campaigns)], [*read("Budget", budgets)], [*read("CallSession", sessions)], aside)

    @cached_property
    def covering(self) -> Mapping[str, set[str]]:
        """The names of the Budgets that cover the namespace, by namespace."""
        budgets = (item for key, item in self.unreadable.items() if key.kind == "Budget")
        return namespace_names(self.budgets, budgets)

    def campaign(self, name: str) -> Campaign | None:
        """A Campaign that can be read."""
        return next((item for item in self.campaigns if item.meta.name == name), None)

    def unread(self, kind: str, name: str) -> Unread | None:
        """An object that cannot be read, if it is such."""
        found = [item for key, item in self.unreadable.items() if (key.kind, key.name) == (kind, name)]
        return _unread(kind, found[0]) if found else None

    def unread_about(self, campaign_name: str, *, in_line: bool = False) -> tuple[Unread, ...]:
        """What cannot be read of all that a campaign's sessions depend on; `in_line`: they stand in line with others.

        Sessions may be thousands: the first of them stands for all.
        """
        campaign = self.campaign(campaign_name)
        budgets = budget_names(campaign, self.covering) if campaign else frozenset()
        matters: Mapping[str, Callable[[Key, Unreadable], bool]] = {
            "Campaign": lambda key, _: in_line or key.name == campaign_name,
            "Budget": lambda key, _: key.name in budgets,
            "CallSession": lambda _, item: _may_wait(item) and (in_line or item.spec.get("campaign") == campaign_name),
        }
        found = [
            (key, item)
            for key, item in sorted(self.unreadable.items(), key=itemgetter(0))
            if matters[key.kind](key, item)
        ]
        others = [_unread(key.kind, item) for key, item in found if key.kind != "CallSession"]
        sessions = [item for key, item in found if key.kind == "CallSession"]
        return (*others, *(_unread("CallSession", item, len(sessions) - 1) for item in sessions[:1]))


def _may_wait(session: Unreadable) -> bool:
    return session.status.get("state") not in TERMINAL_STATES


def _unread(kind: str, item: Unreadable, more: int = 0) -> Unread:
    return Unread(kind, item.meta.name, item.problem[:_MOST_OF_A_PROBLEM], more)


def _read(kind: str, body: dict[str, Any]) -> Object | Unreadable:
    try:
        item = KINDS[kind].of(body)
    except ValidationError as error:
        return Unreadable.of(body, problem_of(error))
    if isinstance(item, Session) and (item.status.get("state") or SessionState.PENDING) not in {*SessionState}:
        return Unreadable.of(body, "status.state: it is none of those known")
    return item
