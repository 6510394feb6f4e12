"""What the API server refuses of a pool: said on the Campaign, and no money moves for it; a real API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.fleet_parts import MERGE, Fleet

from callfleet_operator.context import UNKEPT_FOR
from callfleet_operator.objects import Key
from callfleet_operator.queue import KeyedQueue
from callfleet_operator.reconcile import admission

BUDGETS = "count/poddisruptionbudgets.policy"


def quota(fleet: Fleet, what: str) -> None:
    """Lets the namespace have none of it, as the quota controller would."""
    path = f"/api/v1/namespaces/{fleet.namespace}/resourcequotas"
    fleet.server.request("POST", path, {"metadata": {"name": "none"}, "spec": {"hard": {what: "0"}}})
    used: dict[str, Any] = {"status": {"hard": {what: "0"}, "used": {what: "0"}}}
    fleet.server.request("PATCH", f"{path}/none/status", used, MERGE)


@pytest.mark.parametrize("what", ["secrets", "configmaps", "count/serviceaccounts"])
async def test_a_quota_that_refuses_what_a_pod_needs_shows_on_the_campaign(fleet: Fleet, what: str) -> None:
    quota(fleet, what)
    fleet.apply(1)
    await fleet.look(5)
    assert fleet.pods() == []
    status, reason, message = fleet.condition("WorkersAvailable")
    assert (status, reason) == ("False", "PodRefused")
    assert "exceeded quota" in message
    assert "exceeded quota" in fleet.status()["summary"]


async def test_a_quota_that_refuses_sessions_shows_on_the_campaign_and_goes_when_it_does(fleet: Fleet) -> None:
    """Also on one that nothing was told of before: tools that wait for its first status see it."""
    quota(fleet, "count/callsessions.callfleet.dev")
    fleet.apply(2)
    await fleet.look(3)
    status, reason, message = fleet.condition("Reconciling")
    assert (status, reason) == ("True", "SessionsRefused")
    assert "exceeded quota" in message
    assert "exceeded quota" in fleet.status()["summary"]
    assert fleet.status()["observedGeneration"] == 1
    fleet.server.request("DELETE", f"/api/v1/namespaces/{fleet.namespace}/resourcequotas/none")
    await fleet.look(3)
    assert fleet.condition("Reconciling")[0] == "False"
    assert fleet.status()["sessions"]["pending"] == 2


async def test_pods_that_cannot_be_protected_get_no_calls_cost_no_holds_and_the_campaign_says_why(
    fleet: Fleet, engine: AsyncEngine
) -> None:
    quota(fleet, BUDGETS)
    fleet.apply(3, worker={"minWorkers": 1, "slotsPerWorker": 3})
    await fleet.settled()
    fleet.run_pods()
    await fleet.parts.see()
    context = fleet.parts.context
    cycles = 0

    async def look(key: Key) -> None:  # as the engine dispatches it
        nonlocal cycles
        if key.kind == "Admission":
            cycles += 1
            context.queue.add_after(key, admission.EVERY_S)
            await admission.reconcile(context)

    context.queue = KeyedQueue(look, 4)
    running = asyncio.create_task(context.queue.run())
    context.queue.add(Key("Admission"))
    await asyncio.sleep(3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with engine.connect() as connection:
        held = await connection.scalar(text("SELECT count(*) FROM dial_attempts"))
    assert (held, fleet.bound()) == (0, [])
    assert 2 <= cycles <= 6
    await fleet.look(2)
    assert "exceeded quota" in fleet.condition("WorkersAvailable")[2]
    assert fleet.status()["workers"]["slotsFree"] == 0
    fleet.server.request("DELETE", f"/api/v1/namespaces/{fleet.namespace}/resourcequotas/none")
    fleet.ahead += UNKEPT_FOR
    await fleet.look(2)
    assert len(fleet.bound()) == 3
    assert fleet.condition("WorkersAvailable")[2] == ""


async def test_a_worker_that_was_ready_and_is_not_shows_on_the_campaign(fleet: Fleet) -> None:
    fleet.apply(1)
    await fleet.settled()
    fleet.run_pods()
    (name,) = (item["metadata"]["name"] for item in fleet.pods())
    lost = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "Node is not ready"},
    ]
    container = {
        "name": "worker", "image": "i", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }  # fmt: skip
    fleet.pod_status(name, phase="Running", conditions=lost, containerStatuses=[container])
    await fleet.look(2)
    assert fleet.condition("WorkersAvailable")[:2] == ("False", "NodeNotReady")
    assert name in fleet.condition("WorkersAvailable")[2]
