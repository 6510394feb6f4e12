"""A busy API server turns writes away with 429: they wait as long as it asks, and are made once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_operator.kube import Kube
from callfleet_operator.objects import Meta

META = Meta.of({"metadata": {
    "name": "spring-1-x", "namespace": "sales", "uid": "u", "resourceVersion": "7",
    "creationTimestamp": "2026-11-22T09:00:00Z",
}})  # fmt: skip


class Busy:
    """An API server in front of which a priority level is full for the first few requests."""

    def __init__(self, refusals: int, retry_after: str | None) -> None:
        self.refusals, self.retry_after = refusals, retry_after
        self.asked: list[float] = []

    async def patch(self, request: web.Request) -> web.Response:
        self.asked.append(time.monotonic())
        if len(self.asked) <= self.refusals:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response({"kind": "Status", "code": 429}, status=429, headers=headers)
        return web.json_response(await request.json())


@pytest.fixture
async def busy(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Kube, Busy]]:
    server = Busy(*request.param)
    application = web.Application()
    application.add_routes([web.patch("/{path:.*}", server.patch)])
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    kube = Kube(client.ApiClient(client.Configuration(host=f"http://{host}:{port}")))
    yield kube, server
    await kube.close()
    await runner.cleanup()


@pytest.mark.parametrize("busy", [(1, "2")], indirect=True)
async def test_a_write_that_was_turned_away_waits_as_long_as_it_was_asked_to(busy: tuple[Kube, Busy]) -> None:
    kube, server = busy
    await kube.write_status("CallSession", META, {"state": "Pending"})
    assert len(server.asked) == 2
    assert server.asked[1] - server.asked[0] >= 1.9


@pytest.mark.parametrize("busy", [(1, None)], indirect=True)
async def test_others_wait_with_it(busy: tuple[Kube, Busy]) -> None:
    kube, server = busy
    first = asyncio.create_task(kube.write_status("CallSession", META, {"state": "Pending"}))
    while not server.asked:  # noqa: ASYNC110 - the server has no event to wait for
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await asyncio.gather(first, kube.write_status("CallSession", META, {"state": "Pending"}))
    assert len(server.asked) == 3
    assert min(server.asked[1:]) - server.asked[0] >= 0.9


@pytest.mark.parametrize("busy", [(100, "0")], indirect=True)
async def test_it_gives_up_in_the_end(busy: tuple[Kube, Busy]) -> None:
    kube, server = busy
    with pytest.raises(ApiException, match="429"):
        await kube.write_status("CallSession", META, {"state": "Pending"})
    assert len(server.asked) == 4
