"""A pool of worker pods: one namespace, one worker spec."""

from __future__ import annotations

import math
import re

import structlog

from callfleet_core.ledger import OPEN_STATES
from callfleet_operator import manifests
from callfleet_operator.context import Context
from callfleet_operator.objects import Campaign, Key, Pod
from callfleet_operator.plan.pool import PoolView, plan_pool

_log = structlog.get_logger(__name__)
RECHECK_S = 5.0


async def reconcile(context: Context, key: Key) -> None:
    """Makes as many workers as the demand asks for; removes idle ones after their cool-down."""
    async with context.placement:
        await _reconcile(context, key)


async def _reconcile(context: Context, key: Key) -> None:
    campaigns = [
        item
        for item in context.store.campaigns()
        if item.meta.namespace == key.namespace and manifests.pool_name(item.spec, context.pool_defaults) == key.name
    ]
    pods = context.store.pods(key.namespace, key.name)
    plan = plan_pool(
        await _view(context, campaigns, pods), context.now(), context.settings.callfleet_worker_idle_seconds
    )
    for pod in plan.idle:
        context.idle_since.setdefault(pod.meta.uid, context.now())
    for pod in pods:
        if pod not in plan.idle:
            context.idle_since.pop(pod.meta.uid, None)
    for pod in plan.delete:
        _log.info("worker removed", pod=pod.meta.name, pool=key.name)
        await context.kube.delete_pod(pod.meta)
    if plan.create and campaigns:
        await _create(context, key, campaigns[0], pods, plan.create)
    if plan.idle or plan.create:
        context.queue.add_after(key, RECHECK_S)


async def _view(context: Context, campaigns: list[Campaign], pods: list[Pod]) -> PoolView:
    attempts = await context.ledger.unsettled_attempts()
    by_pod: dict[str, int] = {}
    for attempt in attempts:
        if attempt.state in OPEN_STATES:
            by_pod[attempt.granted_pod_uid] = by_pod.get(attempt.granted_pod_uid, 0) + 1
    demand = 0
    for campaign in campaigns:
        sessions = context.store.sessions(campaign.meta.namespace, campaign.meta.name)
        wanting = sum(session.status.get("reason") in _WANTS_A_SLOT and not session.is_terminal for session in sessions)
        if not campaign.meta.deleted:
            live = sum(a.campaign == campaign.meta.name and a.namespace == campaign.meta.namespace for a in attempts)
            demand += min(campaign.spec.pacing.max_concurrent, wanting + live)
    slots = max((campaign.spec.worker.slots_per_worker for campaign in campaigns), default=1)
    most = max((campaign.spec.worker.max_workers for campaign in campaigns), default=0)
    return PoolView(
        pods=tuple(pods),
        wanted=min(most, math.ceil(demand / slots)),
        live_by_pod=by_pod,
        idle_since=dict(context.idle_since),
    )


# What a session says while nothing but a slot or its turn is missing.
_WANTS_A_SLOT = {"NoCapacity", "Pacing", "NumberBusy"}


async def _create(context: Context, key: Key, campaign: Campaign, pods: list[Pod], count: int) -> None:
    await _prepare(context, key.namespace, campaign)
    owner = await context.kube.ensure_config_map(key.namespace, manifests.pool_config_map(key.name))
    taken = {int(match[1]) for pod in pods if (match := re.search(r"-(\d+)$", pod.meta.name))}
    free = (number for number in range(len(taken) + count) if number not in taken)
    for number in list(free)[:count]:
        name = f"{key.name}-{number}"
        body = manifests.worker_pod(name, key.name, owner, campaign.spec, context.pool_defaults)
        if await context.kube.create_pod(key.namespace, body):
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
