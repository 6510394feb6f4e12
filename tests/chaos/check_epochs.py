"""Fencing: whoever wrote under an epoch that was over had no effect. And errors that nobody should see."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from tests.chaos.evidence import Evidence
from tests.chaos.history import Operation

# Waits that ended, and a carrier's SID that is another attempt's already.
_ALLOWED = ("StaleEpoch", "55P03", "57014", "23505 dial_attempts_call_sid")
_TOLD = {"hold": None, "revoke": "revoked", "settle": "settled", "set_limit": "Applied", "cancel": None}


def check_epochs(evidence: Evidence, excused: Callable[[Operation], bool] = lambda _: False) -> Iterator[str]:
    """What is wrong with the order of leaders, and which errors were met that are not `excused`, a line each."""
    for o in evidence.operations:
        if o.outcome == "refused" and not o.value.startswith(_ALLOWED) and not excused(o):
            yield f"{o.key} ({o.name}) met an error that it should not: {o.value}"
    taken = sorted(
        (o.answered_ns, o.value) for o in evidence.operations if o.name == "take_epoch" and o.outcome == "ok"
    )
    if len({epoch for _, epoch in taken}) != len(taken):
        yield "two leaders were given one epoch"
    yield from _raised(evidence)
    newest: list[int] = []
    for _, epoch in taken:
        newest.append(max(epoch, newest[-1] if newest else 0))
    times = [at for at, _ in taken]
    for o in evidence.operations:
        if o.name not in _TOLD:
            continue
        place = bisect_left(times, o.invoked_ns)
        if place and newest[place - 1] > o.args["epoch"]:
            yield from _late(evidence, o)


def _raised(evidence: Evidence) -> Iterator[str]:
    """A new epoch is newer than every one that was in use when it was asked for."""
    in_use = 0
    for o in evidence.operations:
        in_use = max(in_use, o.args.get("epoch", 0))
        if o.name == "take_epoch" and o.outcome == "ok" and o.value <= in_use:
            yield f"{o.key} was given epoch {o.value}, which is not new"


def _late(evidence: Evidence, o: Operation) -> Iterator[str]:
    """An operation that was asked when its epoch was over: it had no effect, whatever became of its answer."""
    if o.outcome == "ok":
        yield f"{o.key} ({o.name}) was answered under an epoch that was over"
    if o.name == "hold":
        for item in o.args["items"]:
            row, asked = evidence.attempts.get(item["id"]), evidence.asked[item["id"]]
            if row is not None and len(asked.holds) == 1:
                yield f"{o.key} held attempt {item['id']} under an epoch that was over"
    elif o.name == "revoke" and (evidence.attempts.get(o.args["id"]) or {}).get("reason") == o.key:
        yield f"{o.key} revoked under an epoch that was over"
    elif o.name == "settle" and o.key in evidence.costs[o.args["id"]]:
        yield f"{o.key} settled under an epoch that was over"
