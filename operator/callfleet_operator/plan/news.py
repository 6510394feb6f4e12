"""How soon a status that changes with every call is written: what somebody waits for at once, numbers now and then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from callfleet_operator.objects import parse_time
from callfleet_operator.plan.session import without_nulls

# What `kubectl wait`, GitOps tools and people wait for.
_AWAITED = ("observedGeneration", "runID", "model")


def rest_s(
    status: Mapping[str, Any], wanted: Mapping[str, Any], as_of: str | None, now: datetime, every_s: float
) -> float:
    """For how many seconds a status may wait that was written `as_of`; 0 where more than numbers has changed."""
    if as_of is None or _awaited(status) != _awaited(wanted):
        return 0.0
    return max(0.0, every_s - abs((now - parse_time(as_of)).total_seconds()))


def _awaited(status: Mapping[str, Any]) -> tuple[Any, ...]:
    conditions = [(item["type"], item["status"], item["reason"]) for item in status.get("conditions") or []]
    return (*(without_nulls(status.get(name)) for name in _AWAITED), sorted(conditions))
