"""A live call while everything but its worker, its gateway and its carrier is away (docs/outages.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.own_redis import OwnRedis, own_redis
from tests.integration.test_worker_pod import (
    SCRIPT,
    WORKER,
    bind,
    create_session,
    http_status,
    pod,
    state_of,
    status_of,
    until,
    until_state,
)
from tests.integration.worker_parts import stage

from callfleet_simulator.people import Person
from callfleet_worker.supervisor.kube import SessionWatch

pytestmark = pytest.mark.speech

TALKS_S = 28


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[OwnRedis]:
    with own_redis(tmp_path) as server:
        yield server


async def test_a_live_call_goes_on_without_operator_api_server_redis_and_ollama(
    cluster: ApiServer, redis: OwnRedis, engine: AsyncEngine, database_url: str
) -> None:
    """There is no operator at all, and Ollama's port is closed; the others die as soon as somebody has picked up."""
    person = Person(name="Silent", ring_s=1.0, max_s=TALKS_S)
    nowhere = "http://127.0.0.1:9"
    async with (
        stage(engine, database_url, redis.url, person, silent=True, OLLAMA_BASE_URL=nowhere) as on,
        pod(on, cluster) as (_, url),
    ):
        first, second = create_session(cluster), create_session(cluster)
        attempt = await on.granted(SCRIPT)
        bind(cluster, first, attempt)
        await until_state(cluster, first, "InProgress")
        cluster.stop()
        redis.stop()
        await until(lambda: state_of(on, attempt), "ended")
        ended = (await on.rows("SELECT end_status, duration_s FROM dial_attempts WHERE id = :id", id=attempt))[0]
        assert ended["end_status"] == "completed"
        assert ended["duration_s"] >= TALKS_S - 1  # as long as the person stayed
        assert len(await on.said("assistant")) >= 2  # the agent greeted, and asked again by its templates
        assert await asyncio.to_thread(http_status, f"{url}/health") == 200

        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(redis.start)
        following = await on.granted(SCRIPT, contact=1)
        bind(cluster, second, following)
        await until_state(cluster, second, "InProgress")
        assert status_of(cluster, second)["attempt"]["id"] == str(following)


async def test_an_api_server_that_stays_away_does_not_make_a_worker_look_dead(
    cluster: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet would end it, and its live calls: every try is a sign of life, whatever comes of it."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    kube = await SessionWatch.connect("default", WORKER)
    cluster.stop()
    watching = asyncio.ensure_future(anext(kube.sessions()))
    signs: list[float | None] = []
    async with asyncio.timeout(20):
        while len(signs) < 3:
            if kube.last_sign_at not in (None, *signs):
                signs.append(kube.last_sign_at)
            await asyncio.sleep(0.05)
    assert len(set(signs)) == 3
    assert not watching.done()  # it goes on trying
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await kube.close()
