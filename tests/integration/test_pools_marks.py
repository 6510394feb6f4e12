"""Workers with calls: kept from evictions, from whoever leads no more, and from being deleted; on a real API server."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.fleet_parts import IN_CALL, MERGE, Fleet
from tests.integration.operator_parts import operator

from callfleet_operator.apiserver import ConflictError
from callfleet_operator.reconcile import protection

COOL_DOWN = timedelta(seconds=121)
QUIET = timedelta(seconds=31)


async def test_a_worker_is_kept_from_evictions_exactly_while_it_has_a_call(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    (name,) = fleet.pod_names()
    assert fleet.pods()[0]["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    await fleet.look()
    (bound,) = fleet.bound()
    assert fleet.marked() == [name]
    annotations = fleet.pods()[0]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert fleet.evict(name) == 429
    attempt = await fleet.begin(bound)
    fleet.change(suspend=True)
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    assert (fleet.marked(), fleet.evict(name)) == ([name], 429)
    await fleet.end(attempt)
    await fleet.look()
    assert fleet.marked() == [name]  # the next call may be about to come
    fleet.ahead += QUIET
    await fleet.look()
    assert fleet.marked() == []
    assert fleet.evict(name) == 201


async def test_a_mark_that_somebody_took_away_comes_back(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    (name,) = fleet.marked()
    fleet.server.request("PATCH", fleet.path(name), {"metadata": {"labels": {IN_CALL: None}}}, MERGE)
    assert fleet.marked() == []
    await fleet.look_at_pools()
    assert fleet.marked() == [name]


async def test_a_pod_that_ends_between_plan_and_bind_gets_no_call(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.parts.see()
    (pod,) = fleet.parts.context.store.pods(fleet.namespace)
    finalizer = {"metadata": {"finalizers": ["example.com/wait"]}}
    fleet.server.request("PATCH", fleet.path(pod.meta.name), finalizer, MERGE)
    fleet.server.request("DELETE", fleet.path(pod.meta.name))
    with pytest.raises(ConflictError, match="told to end"):
        await protection.protect(fleet.parts.context, pod)
    fleet.server.request("PATCH", fleet.path(pod.meta.name), {"metadata": {"finalizers": None}}, MERGE)
    with pytest.raises(ConflictError):
        await protection.protect(fleet.parts.context, pod)
    await fleet.look()
    assert fleet.bound() == []


async def test_who_leads_no_more_deletes_no_pod_that_the_next_leader_has_given_a_call(
    fleet: Fleet, engine: AsyncEngine, server: ApiServer
) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    await fleet.parts.see()
    (as_the_old_one_sees_it,) = fleet.parts.context.store.pods(fleet.namespace)
    assert as_the_old_one_sees_it.in_call
    async with operator(engine, server, knows_database=True) as successor:
        await successor.see()
        await protection.protect(successor.context, as_the_old_one_sees_it)
        with pytest.raises(ConflictError):
            await protection.remove(fleet.parts.context, as_the_old_one_sees_it)
        unmarked = fleet.parts.context.kube.delete_pod(as_the_old_one_sees_it.meta)
        await unmarked  # refused by the server, which is all that matters
    assert len(fleet.pod_names()) == 1


async def test_who_leads_no_more_does_not_delete_the_owner_of_the_next_leaders_workers(
    fleet: Fleet, engine: AsyncEngine, prepared: ApiServer
) -> None:
    """Kubernetes' garbage collector deletes a pod whose only owner is gone, whatever call it has."""
    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    owner = fleet.pods()[0]["metadata"]["ownerReferences"][0]["name"]
    fleet.change(suspend=True)
    await fleet.look(2)
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    assert fleet.pod_names() == []
    earlier = fleet.parts.context.kube
    ask, stood_still = earlier.request, False
    async with operator(engine, prepared, knows_database=True) as parts:
        next_one = await Fleet.start(parts, prepared)
        next_one.namespace = fleet.namespace

        async def slow(method: str, path: str, **more: Any) -> Any:
            """It stands still after its first look, while the next leader makes a worker and gives it a call."""
            nonlocal stood_still
            found = await ask(method, path, **more)
            if method == "GET" and not stood_still:
                stood_still = True
                next_one.change(suspend=False)
                await next_one.look(3)
                next_one.run_pods()
                await next_one.look(2)
            return found

        earlier.request = slow  # type: ignore[method-assign]
        await earlier.drop_pool(fleet.namespace, owner)
        assert stood_still
        assert len(next_one.bound()) == 1
        maps = prepared.request("GET", f"/api/v1/namespaces/{fleet.namespace}/configmaps")["items"]
        assert owner in [item["metadata"]["name"] for item in maps]
