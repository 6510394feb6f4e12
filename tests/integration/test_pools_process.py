"""The operator as kopf runs it: a warm worker is made, made again when it is lost, and its trouble shown, soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import CONSENT, number, open_books
from tests.integration.fleet_parts import MERGE
from tests.integration.operator_parts import GROUP, campaign_body
from tests.integration.test_leadership import operators

MESSAGE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
SECONDS = 10.0


pytestmark = pytest.mark.usefixtures("prepared")


@pytest.fixture
async def namespace(server: ApiServer, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[str]:
    """One with a campaign whose minimum is one worker, and an operator."""
    name = f"sales-{uuid4().hex[:8]}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
    spec = {"contacts": {"inline": [{"phone": number(0), "consent": consent}]}, "worker": {"minWorkers": 1}}
    async with operators(server, await open_books(engine), tmp_path) as processes:
        await processes.start("only")
        await processes.leader()
        server.request("POST", f"{GROUP}/{name}/campaigns", campaign_body(name, "spring", **spec))
        yield name


async def until(look: Callable[[], Any], within_s: float = SECONDS) -> Any:
    """What it sees, once it sees something."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := await asyncio.to_thread(look):
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {within_s:.0f} s")


async def test_a_lost_warm_worker_is_made_again_and_its_trouble_is_shown(server: ApiServer, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def pod_other_than(uid: str) -> Any:
        found = server.request("GET", pods)["items"]
        return next((item["metadata"] for item in found if item["metadata"]["uid"] != uid), None)

    first = await until(lambda: pod_other_than(""), 30)
    server.request("DELETE", f"{pods}/{first['name']}")
    second = await until(lambda: pod_other_than(first["uid"]))
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": MESSAGE}
    path = f"{pods}/{second['name']}/status"
    await asyncio.to_thread(server.request, "PATCH", path, {"status": {"conditions": [condition]}}, MERGE)

    def status_that_says_so() -> Any:
        status = server.request("GET", f"{GROUP}/{namespace}/campaigns/spring").get("status", {})
        return status if MESSAGE in str(status.get("summary")) else None

    status = await until(status_that_says_so)
    (told,) = [item["message"] for item in status["conditions"] if item["type"] == "WorkersAvailable"]
    assert MESSAGE in told
