"""Which plans are played: every kind of write, request and event of a reference once, then others by the seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from tests.chaos.plans.faults import ANSWERS, WATCH_FAULTS, Fault, Moment
from tests.chaos.plans.play import Plan, Result

# Of a workflow's plans.
SHARES: Mapping[str, float] = {"kill": 0.45, "answer": 0.25, "other": 0.15, "watch": 0.15}
_NAMES = re.compile(r"(campaigns|callsessions|pods|secrets|configmaps|budgets|leases)/[^/ ]+")
_BOTH: Sequence[Moment] = ("before", "after")


def plans(references: Mapping[str, Result], count: int, seed: str) -> list[Plan]:
    """So many plans, the same for the same seed and references; workflows take turns."""
    draws = [_drawn(workflow, found, Random(f"{seed}/{workflow}")) for workflow, found in references.items()]  # noqa: S311  # a test's choices, not a secret
    chosen: dict[str, Plan] = {}
    while len(chosen) < count and draws:
        for draw in list(draws):
            plan = next(draw, None)
            if plan is None:
                draws.remove(draw)
            elif len(chosen) < count:
                chosen.setdefault(plan.name, plan)
    return list(chosen.values())


def _drawn(workflow: str, reference: Result, random: Random) -> Iterator[Plan]:
    """All plans of a workflow, in a mixed order that keeps the shares."""
    left = {
        "kill": _ordered(reference.writes, ["kill"], _BOTH, random),
        "answer": _ordered(reference.requests, ANSWERS, _BOTH, random),
        "other": _ordered(reference.writes, ["stale", "leave", "freeze"], _BOTH, random),
        "watch": _ordered(["event"] * reference.events, WATCH_FAULTS, ["before"], random),
    }
    taken = dict.fromkeys(left, 0)
    while any(left.values()):
        kind = min((name for name in left if left[name]), key=lambda name: (taken[name] + 1) / SHARES[name])
        taken[kind] += 1
        yield Plan(workflow, left[kind].pop())


def _ordered(labels: Sequence[str], kinds: Sequence[str], moments: Sequence[Moment], random: Random) -> list[Fault]:
    """Every fault at every place, those at new kinds of places last, where they are taken from."""
    faults = [
        (Fault(kind, index, moment), (kind, moment, _NAMES.sub(r"\1", label)))
        for index, label in enumerate(labels)
        for kind in kinds
        for moment in moments
    ]
    random.shuffle(faults)
    seen: set[tuple[str, str, str]] = set()
    first: list[Fault] = []
    others: list[Fault] = []
    for fault, what in faults:
        (others if what in seen else first).append(fault)
        seen.add(what)
    return [*others, *first]
