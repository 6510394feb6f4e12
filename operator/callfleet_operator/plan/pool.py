"""How many workers a pool needs, and which may go. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from callfleet_operator.objects import Pod


@dataclass(frozen=True)
class PoolView:
    """A pool: its pods, how many are wanted, who has calls, who has been idle since when (by pod UID)."""

    pods: Sequence[Pod]
    wanted: int
    live_by_pod: Mapping[str, int]
    idle_since: Mapping[str, datetime]


@dataclass(frozen=True)
class PoolPlan:
    """What to do: create so many, delete these; `idle` are those whose cool-down runs."""

    create: int
    delete: tuple[Pod, ...]
    idle: tuple[Pod, ...]


def plan_pool(view: PoolView, now: datetime, idle_seconds: int) -> PoolPlan:
    """Creates at once, deletes late: a pod with a live call never goes, an idle one only after its cool-down."""
    finished = [pod for pod in view.pods if pod.finished and not pod.meta.deleted]
    serving = [pod for pod in view.pods if not pod.finished and not pod.meta.deleted]
    surplus = len(serving) - view.wanted
    idle = [pod for pod in serving if not view.live_by_pod.get(pod.meta.uid)][: max(0, surplus)]
    cooled = [pod for pod in idle if now - view.idle_since.get(pod.meta.uid, now) >= timedelta(seconds=idle_seconds)]
    return PoolPlan(create=max(0, -surplus), delete=(*finished, *cooled), idle=tuple(idle))
