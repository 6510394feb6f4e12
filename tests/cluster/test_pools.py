"""Workers on a real node: kept from evictions during a call, replaced after it; and why one does not start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.cluster.world import World

from callfleet.installation import InstallError

WILLING, OTHER = "+15550100103", "+15550100105"
GPUS_OF_NO_NODE = 8


def _pods(world: World) -> list[dict[str, Any]]:
    return world.installation.objects("pods", world.namespace)


def _evict(world: World, pod: str) -> str:
    """The API server's complaint about an eviction, or nothing."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": world.namespace}}
    path = f"/api/v1/namespaces/{world.namespace}/pods/{pod}/eviction"
    try:
        world.installation.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    except InstallError as error:
        return str(error)
    return ""


def _state(world: World) -> str:
    sessions = world.sessions()
    return str(sessions[0].get("status", {}).get("state", "")) if sessions else ""


def _budget_is_counted(world: World) -> bool:
    """Whether the disruption controller has seen the PodDisruptionBudget."""
    (budget,) = world.installation.objects("poddisruptionbudgets", world.namespace)
    status = budget.get("status", {})
    return bool(status.get("observedGeneration") == budget["metadata"]["generation"])


def _calls(world: World, *phones: str) -> list[str]:
    """How the calls of this namespace ended at the carrier, of which the ledger knows each; others call them, too."""
    dialled = [item for item in world.attempts() if item["begun_at"] is not None]
    sids = {item["call_sid"] for item in dialled}
    found = [call["status"] for phone in phones for call in world.carrier_calls(phone) if call["sid"] in sids]
    assert len(found) == len(dialled)
    return found


@pytest.mark.timeout(400)
def test_a_worker_is_not_evicted_while_its_call_is_live(world: World) -> None:
    world.apply(world.budget("0.22"), world.campaign([WILLING], questions=2))
    world.until(lambda: _state(world) == "InProgress", "talk", 120)
    (pod,) = _pods(world)
    name = pod["metadata"]["name"]
    world.until(lambda: _budget_is_counted(world), "the disruption controller's count", 30)
    assert "disruption budget" in _evict(world, name)
    world.until(lambda: _state(world) == "Completed", "the call's own end", 180)
    assert _calls(world, WILLING) == ["completed"]
    world.until(lambda: _evict(world, name) == "", "the eviction of an idle worker", 60)


@pytest.mark.long
@pytest.mark.timeout(500)
def test_a_changed_worker_takes_over_without_ending_the_live_call(world: World) -> None:
    campaign = world.campaign([WILLING, OTHER])
    world.apply(world.budget("0.22"), campaign)
    world.until(lambda: _state(world) == "InProgress", "talk", 120)
    (before,) = _pods(world)
    campaign["spec"]["worker"] = {**campaign["spec"]["worker"], "drainSeconds": 600}
    world.apply(campaign)
    world.until(lambda: world.states() == ["Completed", "Completed"], "both calls", 360)
    assert _calls(world, WILLING, OTHER) == ["completed"] * 2
    first, second = (item["status"]["worker"] for item in world.sessions())
    assert first == before["metadata"]["name"]
    assert second != first


@pytest.mark.timeout(200)
def test_a_worker_that_no_node_takes_shows_on_the_campaign(world: World) -> None:
    resources = {"limits": {"nvidia.com/gpu": GPUS_OF_NO_NODE}}
    world.apply(world.budget("0.22"), world.campaign([WILLING], worker={"maxWorkers": 1, "resources": resources}))

    def summary() -> str:
        (campaign,) = world.installation.objects("campaigns", world.namespace)
        return str(campaign.get("status", {}).get("summary", ""))

    said = world.until(lambda: "Insufficient nvidia.com/gpu" in summary() and summary(), "the scheduler's reason", 30)
    assert said.startswith("NoCapacity: 1 wait (Unschedulable: ")


@pytest.mark.timeout(300)
def test_an_image_that_cannot_be_pulled_shows_on_the_campaign(world: World) -> None:
    worker = {"maxWorkers": 1, "image": "registry.invalid/callfleet/worker:none"}
    world.apply(world.budget("0.22"), world.campaign([WILLING], worker=worker))

    def available() -> dict[str, Any]:
        (campaign,) = world.installation.objects("campaigns", world.namespace)
        conditions = campaign.get("status", {}).get("conditions", [])
        return next((item for item in conditions if item["type"] == "WorkersAvailable"), {})

    world.until(lambda: available().get("reason") in {"ErrImagePull", "ImagePullBackOff"}, "the kubelet's reason", 120)
    assert "kubectl describe pod" in available()["message"]
