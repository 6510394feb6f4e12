"""Who may lead, decided from the Lease as it was read. No clock of another machine is ever compared with ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from callfleet_operator.objects import format_micro_time

# A leader that died is followed after DURATION_S + RETRY_S at most; one that cannot renew stops leading before another
# may begin. Kubernetes' own controllers take 15, 10 and 2 s.
DURATION_S = 9.0
RENEW_DEADLINE_S = 6.0
RETRY_S = 1.5


@dataclass(frozen=True)
class LeaseView:
    """The Lease's spec as it was last read, and since when (monotonic seconds) it has been just so."""

    spec: dict[str, Any] | None
    unchanged_since_s: float

    def read(self, spec: dict[str, Any] | None, now_s: float) -> LeaseView:
        """The view after another look."""
        return replace(self, spec=spec) if spec == self.spec else LeaseView(spec, now_s)


def may_hold(view: LeaseView, identity: str, now_s: float) -> bool:
    """Whether this one may take the Lease, or renew it: it is free, its own, or was not renewed for its duration."""
    spec = view.spec or {}
    holder = spec.get("holderIdentity") or ""
    if holder in {"", identity}:
        return True
    return now_s - view.unchanged_since_s > float(spec.get("leaseDurationSeconds") or DURATION_S)


def held_spec(spec: dict[str, Any] | None, identity: str, now: datetime) -> dict[str, Any]:
    """The Lease's next spec, held by this one."""
    before = spec or {}
    time = format_micro_time(now)
    if before.get("holderIdentity") == identity:
        return {**before, "leaseDurationSeconds": int(DURATION_S), "renewTime": time}
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(DURATION_S),
        "acquireTime": time,
        "renewTime": time,
        "leaseTransitions": int(before.get("leaseTransitions") or 0) + 1,
    }


def released_spec(spec: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The Lease's next spec, free for whoever comes first."""
    return {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": format_micro_time(now)}
