"""Pools on a real API server: warm, packed, protected while they have calls, replaced; and why one does not start."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from uuid import UUID

import pytest
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import GROUP

from callfleet_core.runs import Run

COOL_DOWN = timedelta(seconds=121)
QUIET = timedelta(seconds=31)


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
