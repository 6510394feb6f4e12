"""Pools on a real API server: warm, packed, protected while they have calls, replaced; and why one does not start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import GROUP, operator

from callfleet_core.runs import Run
from callfleet_operator.apiserver import ConflictError
from callfleet_operator.reconcile import protection

COOL_DOWN = timedelta(seconds=121)
QUIET = timedelta(seconds=31)
IN_CALL = "callfleet.dev/in-call"


def marked(fleet: Fleet) -> list[str]:
    return [item["metadata"]["name"] for item in fleet.pods() if IN_CALL in item["metadata"]["labels"]]


async def test_a_warm_minimum_is_kept_while_the_campaign_is_active(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 2, "maxWorkers": 3}, call={"from": ["+15550100199"]})
    await fleet.settled()
    assert len(fleet.pod_names()) == 2
    fleet.run_pods()
    fleet.ahead += COOL_DOWN
    fleet.change(suspend=True)
    await fleet.look(2)
    assert len(fleet.pod_names()) == 2  # the cool-down has only begun
    assert fleet.status()["workers"] == {"ready": 2, "draining": 0, "slotsFree": 2}
    fleet.ahead += COOL_DOWN
    await fleet.look()
    assert fleet.pod_names() == []
    fleet.change(suspend=False)
    await fleet.look(2)
    assert len(fleet.pod_names()) == 2
    fleet.server.request("DELETE", fleet.path(fleet.pod_names()[0]))  # by force, or with its node
    await fleet.look_at_pools()
    assert len(fleet.pod_names()) == 2


async def test_no_worker_is_started_for_calls_that_nobody_could_pay(fleet: Fleet) -> None:
    fleet.apply(4, worker={"slotsPerWorker": 1, "maxWorkers": 4}, limits={"total": "0.20"})
    await fleet.settled()
    assert len(fleet.pod_names()) == 2  # at 0.09 a call there is money for two
    fleet.change(limits={"total": "1.00"})
    await fleet.look(2)
    assert len(fleet.pod_names()) == 4


async def test_a_call_on_a_pod_that_is_told_to_end_asks_for_no_second_pod(fleet: Fleet) -> None:
    fleet.apply(1, worker={"maxWorkers": 2})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    (bound,) = fleet.bound()
    await fleet.begin(bound)
    (name,) = fleet.pod_names()
    finalizer = {"metadata": {"finalizers": ["example.com/wait"]}}
    fleet.server.request("PATCH", fleet.path(name), finalizer, MERGE)
    fleet.server.request("DELETE", fleet.path(name))  # by hand: it waits for its call
    await fleet.look(3)
    assert fleet.pod_names() == [name]


async def test_a_canceled_session_keeps_its_end_though_the_run_knew_of_it_first(fleet: Fleet) -> None:
    """The operator died in between: the list has the person as done, and the object does not say so yet."""
    fleet.apply(1)
    await fleet.settled()
    (session,) = fleet.sessions()
    path = f"{GROUP}/{fleet.namespace}/callsessions/{session['metadata']['name']}"
    fleet.server.request("PATCH", path, {"spec": {"cancel": True}}, MERGE)
    await fleet.parts.context.runs.finish(
        Run(fleet.namespace, SPRING, "1"), UUID(session["spec"]["contactID"]), state="Canceled", disposition="canceled"
    )
    await fleet.look()
    await fleet.parts.tend_sessions(fleet.namespace)
    await fleet.look()
    assert [item["status"]["state"] for item in fleet.sessions()] == ["Canceled"]


async def test_a_worker_is_kept_from_evictions_exactly_while_it_has_a_call(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    (name,) = fleet.pod_names()
    assert fleet.pods()[0]["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    await fleet.look()
    (bound,) = fleet.bound()
    assert marked(fleet) == [name]
    annotations = fleet.pods()[0]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert fleet.evict(name) == 429
    attempt = await fleet.begin(bound)
    fleet.change(suspend=True)
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    assert (marked(fleet), fleet.evict(name)) == ([name], 429)
    await fleet.end(attempt)
    await fleet.look()
    assert marked(fleet) == [name]  # the next call may be about to come
    fleet.ahead += QUIET
    await fleet.look()
    assert marked(fleet) == []
    assert fleet.evict(name) == 201


async def test_a_mark_that_somebody_took_away_comes_back(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    (name,) = marked(fleet)
    fleet.server.request("PATCH", fleet.path(name), {"metadata": {"labels": {IN_CALL: None}}}, MERGE)
    assert marked(fleet) == []
    await fleet.look_at_pools()
    assert marked(fleet) == [name]


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


async def test_calls_are_packed_and_the_pod_that_comes_free_goes(fleet: Fleet) -> None:
    fleet.apply(4, worker={"minWorkers": 2, "maxWorkers": 2, "slotsPerWorker": 3})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    workers = [item["worker"] for item in fleet.bound()]
    assert sorted(workers.count(name) for name in fleet.pod_names()) == [1, 3]
    fuller = max(set(workers), key=workers.count)
    emptier = min(set(workers), key=workers.count)
    attempts = {item["attempt"]["id"]: (item["worker"], await fleet.begin(item)) for item in fleet.bound()}
    for worker, attempt in attempts.values():
        if worker == emptier:
            await fleet.end(attempt)
    fleet.change(worker={"minWorkers": 0})
    await fleet.look(2)
    fleet.ahead += COOL_DOWN
    await fleet.look()
    assert fleet.pod_names() == [fuller]


async def test_a_changed_image_replaces_pods_one_by_one_and_calls_go_on(fleet: Fleet) -> None:
    fleet.apply(3, worker={"minWorkers": 2, "maxWorkers": 2})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    live = {item["worker"]: await fleet.begin(item) for item in fleet.bound()}
    before = fleet.pod_names()
    assert sorted(live) == before
    staying, leaving = before
    fleet.change(worker={"image": "callfleet/worker:2"})
    await fleet.look(2)
    assert fleet.pod_names() == before  # both have calls, and there is no room for a third
    assert fleet.status()["workers"] == {"ready": 1, "draining": 1, "slotsFree": 0}
    await fleet.end(live[leaving])
    await fleet.look(2)
    images = [item["spec"]["containers"][0]["image"] for item in fleet.pods()]
    assert sorted(images) == ["callfleet/worker:2", "worker"]
    assert staying in fleet.pod_names()
    fleet.run_pods()
    await fleet.look(2)
    (bound,) = fleet.bound()
    new = next(item for item in fleet.pods() if item["spec"]["containers"][0]["image"] == "callfleet/worker:2")
    assert bound["worker"] == new["metadata"]["name"]
    await fleet.end(live[staying])
    await fleet.end(await fleet.begin(bound))
    await fleet.look(3)
    fleet.run_pods()
    await fleet.look()
    assert {item["spec"]["containers"][0]["image"] for item in fleet.pods()} <= {"callfleet/worker:2"}


async def test_while_a_new_image_does_not_start_the_old_workers_go_on_calling(fleet: Fleet) -> None:
    fleet.apply(2, worker={"maxWorkers": 2}, pacing={"maxConcurrent": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    (first,) = fleet.bound()
    attempt = await fleet.begin(first)
    fleet.change(worker={"image": "callfleet/worker:broken"})
    await fleet.look(2)
    broken = next(item for item in fleet.pods() if item["spec"]["containers"][0]["image"].endswith("broken"))
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    status = {"name": "worker", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    fleet.pod_status(
        broken["metadata"]["name"], phase="Pending", containerStatuses=[{**status, "state": {"waiting": waiting}}]
    )
    await fleet.end(attempt)
    await fleet.look(2)
    (second,) = fleet.bound()
    assert second["worker"] == first["worker"]
    assert fleet.condition("WorkersAvailable")[:2] == ("True", "Ready")
    assert "ImagePullBackOff: no such image" in fleet.condition("WorkersAvailable")[2]


async def test_old_workers_that_cannot_serve_the_campaign_get_no_calls(fleet: Fleet) -> None:
    fleet.apply(1, worker={"maxWorkers": 2})
    await fleet.settled()
    fleet.run_pods()
    (name,) = fleet.pod_names()
    other_keys = {"metadata": {"annotations": {"callfleet.dev/serves": "another"}}}
    fleet.server.request("PATCH", fleet.path(name), other_keys, MERGE)
    fleet.change(worker={"image": "callfleet/worker:2"})
    await fleet.look(2)
    assert fleet.bound() == []
    assert name not in fleet.pod_names()


async def test_a_pod_that_no_node_takes_shows_on_the_campaign(fleet: Fleet) -> None:
    fleet.apply(1, worker={"maxWorkers": 1})
    await fleet.settled()
    (name,) = fleet.pod_names()
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    fleet.pod_status(name, conditions=[unscheduled])
    await fleet.look()
    status, reason, said = fleet.condition("WorkersAvailable")
    assert (status, reason) == ("False", "Unschedulable")
    assert message in said
    assert f"kubectl describe pod {name} -n {fleet.namespace}" in said
    assert fleet.status()["summary"] == f"NoCapacity: 1 wait (Unschedulable: {message})"


async def test_a_quota_that_refuses_workers_shows_on_the_campaign(fleet: Fleet) -> None:
    quota = {"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}}
    path = f"/api/v1/namespaces/{fleet.namespace}/resourcequotas"
    fleet.server.request("POST", path, quota)
    used: dict[str, Any] = {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}  # as its controller counts
    fleet.server.request("PATCH", f"{path}/no-pods/status", used, MERGE)
    fleet.apply(1)
    await fleet.settled()
    await fleet.look()
    assert fleet.pod_names() == []
    status, reason, said = fleet.condition("WorkersAvailable")
    assert (status, reason) == ("False", "PodRefused")
    assert "exceeded quota: no-pods" in said


GPU = {"nvidia.com/gpu": 1}
LONGEST_CALL = {
    "from": ["+15550100199"], "maxQueueSeconds": 300, "ringTimeoutSeconds": 120, "maxDurationSeconds": 3600
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"worker": {"minWorkers": 2, "maxWorkers": 1}}, "worker.minWorkers must not be above worker.maxWorkers"),
        ({"worker": {"drainSeconds": 359}}, "worker.drainSeconds must not be below call.maxQueueSeconds"),
        ({"call": LONGEST_CALL, "worker": {"drainSeconds": 4019}}, "worker.drainSeconds must not be below"),
        ({"worker": {"slotsPerWorker": 5}}, "need worker.resources.limits.memory above 2Gi"),
        (
            {"worker": {"slotsPerWorker": 5, "resources": {"limits": {"memory": "2048Mi", **GPU}}}},
            "need worker.resources.limits.memory above 2Gi",
        ),
        *(
            ({"worker": {"resources": {"limits": {"memory": memory}}}}, "limits.memory must be at least 1Gi")
            for memory in ("512m", "2", "0", "100Mi", "1023Mi")
        ),
    ],
)
def test_workers_that_could_not_keep_their_promise_are_refused(
    fleet: Fleet, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(HTTPError) as refused:
        fleet.apply(1, **spec)
    assert message in refused.value.read().decode()
    roomy = {"slotsPerWorker": 5, "resources": {"limits": {"memory": "4Gi", **GPU}}}
    fleet.apply(1, call=LONGEST_CALL, worker=roomy)


async def test_a_namespace_that_is_made_again_gets_all_that_workers_need_again(fleet: Fleet) -> None:
    """The API server alone deletes no namespace's objects: the test does, as a controller would."""
    for _ in range(2):
        fleet.apply(1, worker={"minWorkers": 1})
        await fleet.settled()
        fleet.run_pods()
        await fleet.look()
        assert (len(marked(fleet)), len(_needed(fleet))) == (1, 2)
        fleet.server.request("DELETE", f"{GROUP}/{fleet.namespace}/campaigns/{SPRING}")
        await fleet.look(2)
        for path in [*_needed(fleet), *(fleet.path(name) for name in fleet.pod_names())]:
            fleet.server.request("DELETE", path)
        for item in fleet.sessions():
            path = f"{GROUP}/{fleet.namespace}/callsessions/{item['metadata']['name']}"
            fleet.server.request("DELETE", path)
            fleet.server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
        await fleet.look()
        assert _needed(fleet) == []


async def test_access_that_somebody_took_away_is_given_again(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    (account,) = _needed(fleet)
    fleet.server.request("DELETE", account)
    fleet.server.request("DELETE", fleet.path(fleet.pod_names()[0]))
    await fleet.look_at_pools()
    assert fleet.pod_names() == []  # refused: there is no such service account
    await fleet.look_at_pools()
    assert len(fleet.pod_names()) == 1


async def test_what_owned_a_pools_pods_goes_after_the_last_of_them(fleet: Fleet) -> None:
    def maps() -> set[str]:
        found = fleet.server.request("GET", f"/api/v1/namespaces/{fleet.namespace}/configmaps")["items"]
        return {str(item["metadata"]["name"]) for item in found}

    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    (first,) = maps()
    fleet.run_pods()
    await fleet.look()
    attempt = await fleet.begin(fleet.bound()[0])
    fleet.change(worker={"image": "worker:2", "maxWorkers": 1})
    await fleet.look(2)
    assert first in maps()  # its pod has a call
    await fleet.end(attempt)
    fleet.ahead += QUIET
    await fleet.look(3)
    assert not any(name.startswith(first) for name in fleet.pod_names())
    assert first not in maps()
    fleet.server.request("DELETE", f"{GROUP}/{fleet.namespace}/campaigns/{SPRING}")
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    assert (fleet.pod_names(), maps()) == ([], set())


def _needed(fleet: Fleet) -> list[str]:
    """Paths of the workers' service account and of what keeps them from evictions, if they are there."""
    kinds = ("/api/v1", "serviceaccounts"), ("/apis/policy/v1", "poddisruptionbudgets")
    found = []
    for group, plural in kinds:
        path = f"{group}/namespaces/{fleet.namespace}/{plural}"
        items = fleet.server.request("GET", path)["items"]
        found += [f"{path}/{item['metadata']['name']}" for item in items if item["metadata"]["name"] != "default"]
    return found
