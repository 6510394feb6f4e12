"""Whose pods are whose, what is free on them, and what a Campaign says of them: as the store and the ledger say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from callfleet_core.ledger import OPEN_STATES, OpenAttempt
from callfleet_operator import manifests
from callfleet_operator.context import Context
from callfleet_operator.objects import Campaign, Key, Pod
from callfleet_operator.plan.campaign import WorkersView
from callfleet_operator.plan.pool import PodPlaces, place_pods
from callfleet_operator.plan.slots import Place, packed_slots


def open_by_pod(attempts: Iterable[OpenAttempt]) -> Counter[str]:
    """How many calls are granted, dialled or live on each pod, by its UID."""
    return Counter(item.granted_pod_uid for item in attempts if item.state in OPEN_STATES)


def campaigns_of(context: Context, namespace: str, pool: str) -> list[Campaign]:
    """The campaigns that ask for this pool now."""
    return [
        item for item in context.store.campaigns() if item.meta.namespace == namespace and context.pool_of(item) == pool
    ]


def placed(context: Context, namespace: str) -> PodPlaces:
    """A namespace's pods by the pools that they serve."""
    asked = {
        item.meta.name: context.pool_of(item) for item in context.store.campaigns() if item.meta.namespace == namespace
    }
    return place_pods(context.store.pods(namespace), asked)


def pool_keys(context: Context, namespace: str) -> list[Key]:
    """Every pool of a namespace that has pods, is asked for, or was and is not forgotten yet, by name."""
    places = placed(context, namespace)
    asked = {context.pool_of(item) for item in context.store.campaigns() if item.meta.namespace == namespace}
    known = {key.name for key in context.pods_shown if key.namespace == namespace}
    return [Key("Pool", namespace, name) for name in sorted(asked | known | places.own.keys() | places.orphans.keys())]


def can_serve(context: Context, pod: Pod, campaign: Campaign) -> bool:
    """Whether a pod of an earlier pool can make this campaign's calls: with its account, for people it can read."""
    return pod.slots > 0 and pod.serves == manifests.serves(campaign.spec, context.pool_defaults)


def taking_calls(context: Context, namespace: str, taken: Counter[str]) -> list[Place]:
    """The pods of a namespace that may be given calls, by the pool whose sessions they take."""
    found: dict[str, Place] = {}
    places = placed(context, namespace)
    for campaign in context.store.campaigns():
        if campaign.meta.namespace != namespace:
            continue
        name = context.pool_of(campaign)
        key, closing = (namespace, name), context.closing.get(Key("Pool", namespace, name), frozenset())
        slots = campaign.spec.worker.slots_per_worker
        for pod in places.own.get(name, ()):
            found[pod.meta.uid] = Place(key, pod, slots, taken[pod.meta.uid], earlier=False)
        for pod in places.earlier.get(name, ()):
            if pod.meta.uid not in closing and can_serve(context, pod, campaign):
                found[pod.meta.uid] = Place(key, pod, pod.slots, taken[pod.meta.uid], earlier=True)
    return list(found.values())


def without_unkept(context: Context, places: Iterable[Place]) -> list[Place]:
    """Without pods that could not be marked as being in a call: nothing would keep them from being evicted in one."""
    now = context.now()
    return [item for item in places if not context.unkept.has(item.pod.meta.uid, now)]


def workers_view(context: Context, campaign: Campaign, attempts: Sequence[OpenAttempt]) -> WorkersView:
    """What a Campaign's status says of its workers."""
    namespace, name = campaign.meta.namespace, context.pool_of(campaign)
    places = placed(context, namespace)
    pods = [*places.own.get(name, ()), *places.earlier.get(name, ())]
    mine = [item for item in taking_calls(context, namespace, open_by_pod(attempts)) if item.pool == (namespace, name)]
    taking = {item.pod.meta.uid for item in mine if item.pod.serves_on}
    troubled = next((pod for pod in pods if pod.problem and pod.serves_on), None)
    return WorkersView(
        ready=sum(item.pod.ready and item.pod.serves_on for item in mine),
        draining=sum(pod.meta.uid not in taking and not pod.finished for pod in pods),
        slots_free=len(packed_slots(without_unkept(context, mine))),
        earlier=sum(not pod.finished for pod in places.earlier.get(name, ())),
        troubled=troubled.meta.name if troubled else None,
        problem=(troubled.problem if troubled else None) or context.problem_of(Key("Pool", namespace, name)),
    )
