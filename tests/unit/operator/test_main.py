"""How kopf is set up: what it asks the API server for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kopf
import pytest
from kopf._cogs.clients import api, fetching, watching  # its own requests: there is no other way to see them
from kopf._cogs.structs.references import Resource

from callfleet_operator.main import set_up
from callfleet_operator.objects import POOL_LABEL

PODS = Resource("", "v1", "pods", namespaced=True)
SESSIONS = Resource("callfleet.dev", "v1alpha1", "callsessions", namespaced=True)


async def asked(resource: Resource, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """The queries of kopf's list and of its watch."""
    queries: list[dict[str, list[str]]] = []

    def take(url: str) -> None:
        queries.append(parse_qs(urlsplit(url).query))

    async def get(*, url: str, **_: Any) -> dict[str, Any]:
        take(url)
        return {"metadata": {"resourceVersion": "7"}}

    async def stream(*, url: str, **_: Any) -> AsyncIterator[Any]:
        take(url)
        return
        yield

    monkeypatch.setattr(api, "get", get)
    monkeypatch.setattr(api, "stream", stream)
    settings = kopf.OperatorSettings()
    set_up(settings)
    logger = logging.getLogger()
    async for _ in fetching.fetch_objs(settings=settings, resource=resource, namespace=None, logger=logger):
        pass
    pause = asyncio.get_running_loop().create_future()
    async for _ in watching.watch_objs(
        settings=settings, resource=resource, namespace=None, since="7", operator_pause_waiter=pause
    ):
        pass
    return queries


async def test_of_pods_only_workers_are_listed_and_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    listed, watched = await asked(PODS, monkeypatch)
    assert (listed["labelSelector"], watched["labelSelector"]) == ([POOL_LABEL], [POOL_LABEL])
    assert watched["watch"] == ["true"]


async def test_of_our_own_kinds_everything_is(monkeypatch: pytest.MonkeyPatch) -> None:
    listed, watched = await asked(SESSIONS, monkeypatch)
    assert "labelSelector" not in listed | watched
