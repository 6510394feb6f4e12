"""A pool of worker pods: one namespace, one worker spec."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import structlog

from callfleet_core.carriers import CarrierAccount
from callfleet_core.ledger import OPEN_STATES, OpenAttempt
from callfleet_operator import manifests
from callfleet_operator.apiserver import RefusedError
from callfleet_operator.context import Context
from callfleet_operator.objects import Campaign, Key, Pod, PodProblem
from callfleet_operator.plan.hours import hours_of, next_opening
from callfleet_operator.plan.pool import (
    Demand,
    PoolPlan,
    PoolView,
    hours_are_near,
    keeps_warm,
    most_at_once,
    plan_marks,
    plan_pool,
    plan_wanted,
    slots_refused,
    wants_a_slot,
)
from callfleet_operator.reconcile import protection
from callfleet_operator.reconcile.pods import campaigns_of, can_serve, open_by_pod, placed

_log = structlog.get_logger(__name__)
RECHECK_S = 5.0
# A Campaign says so soon after a change of its pods.
SHOWN_AFTER_S = 1.0


async def reconcile(context: Context, key: Key) -> None:
    """Makes as many workers as the demand asks for; removes idle ones after their cool-down, replaced ones at once."""
    async with context.placement:
        await _reconcile(context, key)


async def _reconcile(context: Context, key: Key) -> None:
    campaigns = campaigns_of(context, key.namespace, key.name)
    places = placed(context, key.namespace)
    pods = [*places.own.get(key.name, ()), *places.orphans.get(key.name, ())]
    earlier = list(places.earlier.get(key.name, ()))
    if not campaigns and not pods:
        await _forget(context, key)
        return
    # The ledger after the pods: a pod that was seen with another leader's mark is seen with that leader's hold, too.
    attempts = await context.ledger.open_attempts()
    view = _view(context, campaigns, pods, earlier, attempts)
    plan = plan_pool(view, context.now(), context.settings.callfleet_worker_idle_seconds)
    _remember(context, key, plan, [*pods, *earlier])
    await _mark(context, view, {pod.meta.uid for pod in plan.delete})
    for pod in plan.delete:
        _log.info("worker removed", pod=pod.meta.name, pool=key.name)
        await protection.remove(context, pod)
    context.pool_problems.pop(key, None)
    if not any(context.unkept.has(pod.meta.uid, context.now()) for pod in pods):
        context.mark_problems.pop(key, None)
    if plan.create and campaigns:
        try:
            await _create(context, key, campaigns, _free_names(key, pods, plan.create))
        except RefusedError as error:
            context.forget_namespace(key.namespace)  # what was prepared may have been taken away
            context.pool_problems[key] = PodProblem("PodRefused", str(error))
            _log.warning("worker refused", pool=key.name)
    _show(context, key, campaigns, [*pods, *earlier])
    if (
        key in context.mark_problems
        or not view.proven
        or plan.create
        or plan.idle
        or plan.closing
        or plan.delete
        or any(pod.in_call for pod in (*pods, *earlier))
    ):
        context.queue.add_after(key, RECHECK_S)


def _view(
    context: Context,
    campaigns: Sequence[Campaign],
    pods: list[Pod],
    earlier: list[Pod],
    attempts: Sequence[OpenAttempt],
) -> PoolView:
    # A pod that is told to end serves its calls, and nobody who waits.
    own, old = ({pod.meta.uid for pod in some if pod.serves_on} for some in (pods, earlier))
    live = open_by_pod(attempts)
    slots = campaigns[0].spec.worker.slots_per_worker if campaigns else 0
    return PoolView(
        pods=tuple(pods),
        earlier=tuple(earlier),
        useful=frozenset(pod.meta.uid for pod in earlier if campaigns and can_serve(context, pod, campaigns[0])),
        wanted=plan_wanted(
            [_demand(context, campaign, attempts, own, old) for campaign in campaigns],
            slots_refused(pods, live, slots),
        ),
        live_by_pod=live,
        idle_since=dict(context.idle_since),
        proven=not campaigns or any(isinstance(context.carriers.of(item), CarrierAccount) for item in campaigns),
    )


def _demand(
    context: Context, campaign: Campaign, attempts: Sequence[OpenAttempt], own: set[str], earlier: set[str]
) -> Demand:
    meta, worker, now = campaign.meta, campaign.spec.worker, context.now()
    sessions = context.store.unfinished_of(meta.namespace, meta.name)
    where = Counter(
        "own" if item.granted_pod_uid in own else "earlier" if item.granted_pod_uid in earlier else "others"
        for item in attempts
        if (item.namespace, item.campaign) == (meta.namespace, meta.name) and item.state in OPEN_STATES
    )
    return Demand(
        waiting=sum(wants_a_slot(item, now, in_line=item.meta.uid in context.in_line) for item in sessions),
        on_own=where["own"],
        on_earlier=where["earlier"],
        on_others=where["others"],
        max_concurrent=most_at_once(campaign.spec),
        slots_per_worker=worker.slots_per_worker,
        min_workers=worker.min_workers,
        max_workers=worker.max_workers,
        active=keeps_warm(campaign) and _hours_are_near(context, campaign, has_calls=bool(where)),
        deleted=meta.deleted,
    )


def _hours_are_near(context: Context, campaign: Campaign, *, has_calls: bool) -> bool:
    hours, now = hours_of(campaign.spec), context.now()
    if hours is None:
        return True
    known = context.openings.get((campaign.meta.namespace, campaign.meta.name))
    opening = known if hours.by_callees_clock else next_opening(hours, (), now)
    return hours_are_near(hours, opening, now, has_calls=has_calls)


def _remember(context: Context, key: Key, plan: PoolPlan, pods: Sequence[Pod]) -> None:
    now, idle = context.now(), {pod.meta.uid for pod in plan.idle}
    live = {pod.meta.uid for pod in pods if pod.in_call}
    for uid in idle:
        context.idle_since.setdefault(uid, now)
    for pod in pods:
        if pod.meta.uid not in idle:
            context.idle_since.pop(pod.meta.uid, None)
        if pod.meta.uid not in live:
            context.quiet_since.pop(pod.meta.uid, None)
    context.closing[key] = frozenset(pod.meta.uid for pod in plan.closing)
    context.forget_pods()


async def _forget(context: Context, key: Key) -> None:
    """Nobody asks for it: what owned its pods goes after the last of them, which may serve another pool until then."""
    if key in context.pods_shown:
        if context.store.pods(key.namespace, key.name):
            return
        await context.kube.drop_pool(key.namespace, key.name)
    context.closing.pop(key, None)
    context.pool_problems.pop(key, None)
    context.mark_problems.pop(key, None)
    context.pods_shown.pop(key, None)
    context.forget_pods()
    campaigns = (item for item in context.store.campaigns() if item.meta.namespace == key.namespace)
    if not any(campaigns) and not context.store.pods(key.namespace):
        context.forget_namespace(key.namespace)  # it may be deleted


async def _mark(context: Context, view: PoolView, going: set[str]) -> None:
    """Marks pods with calls that are not marked (somebody took the mark away, or they are older than marks)."""
    pods = [pod for pod in (*view.pods, *view.earlier) if pod.meta.uid not in going]
    for pod in pods:
        if view.live_by_pod.get(pod.meta.uid):
            context.quiet_since.pop(pod.meta.uid, None)
        elif pod.in_call:
            context.quiet_since.setdefault(pod.meta.uid, context.now())
    plan = plan_marks(pods, view.live_by_pod, context.quiet_since, context.now())
    for pod in plan.mark:
        await protection.protect(context, pod)
    for pod in plan.release:
        await protection.release(context, pod)


def _show(context: Context, key: Key, campaigns: Sequence[Campaign], pods: Sequence[Pod]) -> None:
    """Has the Campaigns say what has become of their pods."""
    seen = {(pod.meta.uid, pod.ready, pod.serves_on, pod.problem) for pod in pods}
    shown = hash((frozenset(seen), context.closing.get(key), context.problem_of(key)))
    if context.pods_shown.get(key) == shown:
        return
    context.pods_shown[key] = shown
    for campaign in campaigns:
        context.queue.add_after(Key("Campaign", key.namespace, campaign.meta.name), SHOWN_AFTER_S)


def _free_names(key: Key, pods: Sequence[Pod], count: int) -> list[str]:
    """Names for so many new pods, by the pods that the plan knew: if one is there by now, nothing more is made."""
    taken = {int(match[1]) for pod in pods if (match := re.search(r"-(\d+)$", pod.meta.name))}
    free = (number for number in range(len(taken) + count) if number not in taken)
    return [f"{key.name}-{number}" for number in islice(free, count)]


async def _create(context: Context, key: Key, campaigns: Sequence[Campaign], pod_names: Sequence[str]) -> None:
    campaign = campaigns[0]
    await _prepare(context, key.namespace, campaign)
    owner = await context.kube.ensure_config_map(
        key.namespace, manifests.pool_config_map(key.name, context.ledger.epoch)
    )
    names = [item.meta.name for item in campaigns]
    for name in pod_names:
        body = manifests.worker_pod(name, key.name, owner, campaign.spec, context.pool_defaults, names)
        created = await context.kube.create_pod(key.namespace, body)
        if created is not None:
            # The next look counts it, whenever the watch brings it: else it would make one more than there may be.
            context.store.apply("Pod", created)
            _log.info("worker created", pod=name, pool=key.name)


async def _prepare(context: Context, namespace: str, campaign: Campaign) -> None:
    """Gives a namespace what its workers need: access, and the Secrets of the installation that they read."""
    settings = context.settings
    copied = [settings.callfleet_worker_secret]
    if campaign.spec.carrier_ref is None:
        copied.append(settings.callfleet_carrier_secret)
    if (namespace, *copied) in context.prepared:
        return
    await context.kube.ensure_worker_access(
        namespace,
        manifests.worker_account(),
        manifests.worker_role_binding(namespace, settings.callfleet_worker_cluster_role),
    )
    keys = context.subjects.ring(namespace).text()
    await context.kube.merge_secret(namespace, settings.callfleet_keys_secret, {"CALLFLEET_NAMESPACE_KEYS": keys})
    if namespace != settings.callfleet_namespace:
        for name in copied:
            await context.kube.copy_secret(settings.callfleet_namespace, namespace, name)
    context.prepared.add((namespace, *copied))
