"""A busy API server turns requests away with 429: they wait as long as it asks, and are made once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_operator.apiserver import ListExpiredError
from callfleet_operator.audit import audit
from callfleet_operator.kube import Kube
from callfleet_operator.objects import Key, Meta
from callfleet_operator.store import Store
from callfleet_operator.watches import Watches

BODY = {"metadata": {
    "name": "spring-1-x", "namespace": "sales", "uid": "u", "resourceVersion": "7",
    "creationTimestamp": "2026-11-22T09:00:00Z", "labels": {"callfleet.dev/pool": "pool"},
}}  # fmt: skip
META = Meta.of(BODY)


class Busy:
    """An API server in front of which a priority level is full for the first few requests."""

    def __init__(self, refusals: int, retry_after: str | None, *, expires: bool = False) -> None:
        self.refusals, self.retry_after, self.expires = refusals, retry_after, expires
        self.asked: list[float] = []

    async def patch(self, request: web.Request) -> web.Response:
        return self._refusal() or web.json_response(await request.json())

    async def list(self, request: web.Request) -> web.Response:
        """Two pages; the second one is turned away, and then has expired once."""
        if "continue" not in request.query:
            return web.json_response(
                {"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [{**BODY, "spec": {}}]}
            )
        refusal = self._refusal()
        if refusal is None and len(self.asked) == self.refusals + 1 and self.expires:
            return web.json_response({"kind": "Status", "code": 410}, status=410)
        return refusal or web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})

    def _refusal(self) -> web.Response | None:
        self.asked.append(time.monotonic())
        if len(self.asked) > self.refusals:
            return None
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.json_response({"kind": "Status", "code": 429}, status=429, headers=headers)


@pytest.fixture
async def busy(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Kube, Busy]]:
    server = Busy(*request.param)
    application = web.Application()
    application.add_routes([web.patch("/{path:.*}", server.patch), web.get("/{path:.*}", server.list)])
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


@pytest.mark.parametrize("busy", [(1, "1")], indirect=True)
async def test_a_page_of_a_list_that_was_turned_away_waits_and_comes(busy: tuple[Kube, Busy]) -> None:
    kube, server = busy
    assert [len(bodies) async for bodies, _ in kube.pages("Pod")] == [1, 0]
    assert server.asked[1] - server.asked[0] >= 0.9


@pytest.mark.parametrize("busy", [(1, "0")], indirect=True)
async def test_a_list_whose_rest_has_expired_is_taken_again_from_its_beginning(busy: tuple[Kube, Busy]) -> None:
    kube, server = busy
    server.expires = True
    with pytest.raises(ListExpiredError, match="the list of Pod took too long"):
        _ = [bodies async for bodies, _ in kube.pages("Pod")]
    server.asked.clear()
    store, told = Store(), list[Key]()
    await audit(OnlyPods(kube), store, Watches(), told.extend)
    assert told == [Key("Pod", "sales", "spring-1-x")]
    assert [item.meta.name for item in store.pods()] == ["spring-1-x"]


class OnlyPods:
    """There is nothing of another kind."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def pages(
        self, kind: str, knows: Callable[[dict[str, Any], int], bool] | None = None
    ) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        if kind == "Pod":
            async for page in self._kube.pages(kind, knows):
                yield page
