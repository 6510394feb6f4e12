"""How many workers a pool needs, which may go, and how a changed worker replaces an earlier one. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from callfleet_core.api.callsession import Reason, SessionState
from callfleet_core.api.campaign import CampaignSpec
from callfleet_operator.objects import Campaign, Pod, Session, parse_time
from callfleet_operator.plan.hours import Hours, is_over

# Workers are started so long before the hours in which a campaign may call: an image is pulled, models are loaded.
WARM_UP = timedelta(minutes=5)
# A worker stays marked so long after its last call: between two calls it need not be marked anew.
MARKED_AFTER_CALL = timedelta(seconds=30)


def keeps_warm(campaign: Campaign) -> bool:
    """Whether a campaign's warm minimum counts: it is served, may call, and has people left to call in this run."""
    status = campaign.status
    stalled = any(item["type"] == "Stalled" and item["status"] == "True" for item in status.get("conditions") or [])
    if campaign.meta.deleted or campaign.spec.suspend or stalled or status.get("runID") != campaign.spec.run_id:
        return False
    contacts = status.get("contacts") or {}
    return int(contacts.get("total", 0)) > int(contacts.get("done", 0))


def most_at_once(spec: CampaignSpec) -> int:
    """How many calls a campaign can have at once, by its own limits: of a slow pace one ends before the next begins."""
    pace = spec.pacing.calls_per_second
    most = spec.pacing.max_concurrent
    return most if pace is None else min(most, max(1, math.ceil(Decimal(pace) * spec.call.longest_s)))


def hours_are_near(hours: Hours, opening: datetime | None, now: datetime, *, has_calls: bool) -> bool:
    """Whether a campaign may call somebody now, or will within WARM_UP. `opening`: when it may next call somebody who
    waits; None: nobody is known who waits and may ever be called. Then, calls that are open tell that it has hours.
    """
    if is_over(hours, now):
        return False
    return has_calls if opening is None else opening <= now + WARM_UP


def wants_a_slot(session: Session, now: datetime, *, in_line: bool) -> bool:
    """Whether a session could be called if it had a slot: now, or as soon as its hours begin and workers are there.

    `in_line`: the last plan of admissions says so, and that there is money for it beside those before it. What a
    session itself says may be what it was born with.
    """
    text, retry_at = session.status.get("reason"), session.status.get("retryAt")
    if text == Reason.OUTSIDE_CALLING_HOURS:
        return retry_at is not None and parse_time(retry_at) <= now + WARM_UP
    return in_line and session.state is SessionState.PENDING


@dataclass(frozen=True)
class Demand:
    """What one campaign asks of its pool: sessions that want a slot, and open attempts by the pods that they are on."""

    waiting: int
    on_own: int
    on_earlier: int
    on_others: int
    max_concurrent: int
    slots_per_worker: int
    min_workers: int
    max_workers: int
    # It has people to call and may call them, at this hour, too: its warm minimum counts.
    active: bool
    deleted: bool


@dataclass(frozen=True)
class Wanted:
    """How many pods a pool should have: `pods` for all calls, `fresh` without those that are on earlier pods already.

    `most` is the most that it may have, those that it replaces included.
    """

    pods: int
    fresh: int
    most: int


def plan_wanted(demands: Sequence[Demand], refused: int = 0) -> Wanted:
    """What campaigns that share a pool want together.

    They share its pods: their calls add up; of their minimums and maximums the largest holds. `refused`: slots of their
    pods that cannot be had (slots_refused).
    """
    slots = max((item.slots_per_worker for item in demands), default=1)
    most = max((item.max_workers for item in demands), default=0)
    warm = max((item.min_workers for item in demands if item.active), default=0)
    calls, fresh = refused, refused
    for item in demands:
        if item.deleted:
            continue
        room = max(0, item.max_concurrent - item.on_others)
        calls += min(room, item.waiting + item.on_own + item.on_earlier)
        fresh += min(room, item.waiting + item.on_own)
    return Wanted(
        pods=min(most, max(warm, math.ceil(calls / slots))),
        fresh=min(most, max(warm, math.ceil(fresh / slots))),
        most=most,
    )


def slots_refused(pods: Iterable[Pod], live_by_pod: Mapping[str, int], slots: int) -> int:
    """Slots that pods with calls do not give, because they are not ready: above 80 % of their processor, say."""
    return sum(
        max(0, slots - live_by_pod[pod.meta.uid])
        for pod in pods
        if pod.serves_on and not pod.ready and live_by_pod.get(pod.meta.uid)
    )


@dataclass(frozen=True)
class PoolView:
    """A pool: its pods and those that they replace, what is wanted, who has calls, who has been idle since when.

    `earlier` are pods of pools that no campaign asks for any more, made for campaigns that ask for this one now;
    `useful`, by UID, are those of them that can make these campaigns' calls at all. The mappings are by pod UID.
    `proven`: whether the Secret that a new pod would mount is a carrier's; a Campaign may name any.
    """

    pods: Sequence[Pod]
    earlier: Sequence[Pod]
    useful: frozenset[str]
    wanted: Wanted
    live_by_pod: Mapping[str, int]
    idle_since: Mapping[str, datetime]
    proven: bool = True


@dataclass(frozen=True)
class PoolPlan:
    """What to do: create so many, delete these; `idle` are those whose cool-down runs; `closing` take no new calls."""

    create: int
    delete: tuple[Pod, ...]
    idle: tuple[Pod, ...]
    closing: tuple[Pod, ...]


def plan_pool(view: PoolView, now: datetime, idle_seconds: int) -> PoolPlan:
    """Creates at once, deletes late: a pod with a live call never goes, an idle one only after its cool-down.

    A pod that is replaced goes when it has no call: as soon as enough of the new ones are ready, or, where the maximum
    leaves no room for a new one, one at a time, the emptiest first. While none may be made, what is there stays.
    """
    finished = [pod for pod in (*view.pods, *view.earlier) if pod.finished and not pod.meta.deleted]
    serving = [pod for pod in view.pods if pod.serves_on]
    earlier = [pod for pod in view.earlier if pod.serves_on]
    missing = max(0, view.wanted.fresh - len(serving)) if view.proven else 0
    create = min(missing, max(0, view.wanted.most - len(serving) - len(earlier)))
    closing = _closing(view, serving, earlier, no_room=create < missing, creating=create > 0)
    surplus = max(0, len(serving) - view.wanted.fresh)
    idle = [pod for pod in _emptiest_first(serving, view) if not view.live_by_pod.get(pod.meta.uid)][:surplus]
    cooled = [pod for pod in idle if now - view.idle_since.get(pod.meta.uid, now) >= timedelta(seconds=idle_seconds)]
    replaced = [pod for pod in closing if not view.live_by_pod.get(pod.meta.uid)]
    return PoolPlan(create, (*finished, *cooled, *replaced), tuple(idle), tuple(closing))


def _closing(
    view: PoolView, serving: Sequence[Pod], earlier: Sequence[Pod], *, no_room: bool, creating: bool
) -> list[Pod]:
    """Earlier pods that take no new calls: as many as the new ones make needless, and one where one needs its place.

    While a new one starts no place is made: if it never starts, nothing was lost.
    """
    ready = sum(pod.ready for pod in serving)
    useful = [pod for pod in earlier if pod.meta.uid in view.useful]
    kept = min(len(useful), max(0, view.wanted.pods - ready))
    starting = creating or ready < len(serving)
    if no_room and not starting:
        kept = min(kept, len(earlier) - 1)
    keep = {pod.meta.uid for pod in list(reversed(_emptiest_first(useful, view)))[:kept]}
    return [pod for pod in earlier if pod.meta.uid not in keep]


def _emptiest_first(pods: Iterable[Pod], view: PoolView) -> list[Pod]:
    """By calls; among equals those that do not serve yet, then the youngest numbers."""
    by_name = sorted(pods, key=lambda pod: pod.meta.name, reverse=True)
    return sorted(by_name, key=lambda pod: (view.live_by_pod.get(pod.meta.uid, 0), pod.ready))


@dataclass(frozen=True)
class PodPlaces:
    """Whose pod each is: `own` and `earlier` by the pool that they serve now; `orphans` serve nobody, by their own."""

    own: Mapping[str, Sequence[Pod]]
    earlier: Mapping[str, Sequence[Pod]]
    orphans: Mapping[str, Sequence[Pod]]


def place_pods(pods: Iterable[Pod], pool_by_campaign: Mapping[str, str]) -> PodPlaces:
    """Sorts one namespace's pods by the pools that its campaigns ask for now."""
    asked_for = set(pool_by_campaign.values())
    own: dict[str, list[Pod]] = {}
    earlier: dict[str, list[Pod]] = {}
    orphans: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=lambda item: item.meta.name):
        heir = next((pool_by_campaign[name] for name in pod.campaigns if name in pool_by_campaign), None)
        if pod.pool in asked_for:
            own.setdefault(pod.pool, []).append(pod)
        elif heir is not None:
            earlier.setdefault(heir, []).append(pod)
        else:
            orphans.setdefault(pod.pool, []).append(pod)
    return PodPlaces(own, earlier, orphans)


@dataclass(frozen=True)
class MarkPlan:
    """Pods to mark as being in a call, and pods whose mark to take away."""

    mark: tuple[Pod, ...]
    release: tuple[Pod, ...]


def plan_marks(
    pods: Iterable[Pod], live_by_pod: Mapping[str, int], quiet_since: Mapping[str, datetime], now: datetime
) -> MarkPlan:
    """A pod with a call is marked; one that has been quiet for a while is not."""
    there = [pod for pod in pods if pod.serves_on]
    mark = [pod for pod in there if live_by_pod.get(pod.meta.uid) and not pod.in_call]
    quiet = [pod for pod in there if not live_by_pod.get(pod.meta.uid) and pod.in_call]
    release = [pod for pod in quiet if now - quiet_since.get(pod.meta.uid, now) >= MARKED_AFTER_CALL]
    return MarkPlan(tuple(mark), tuple(release))
