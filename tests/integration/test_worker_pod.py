"""The supervisor as a pod runs it: real API server, ledger, gateway, carrier; sessions bound by a status patch."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server, free_port
from tests.integration.books import POD
from tests.integration.operator_parts import session_body
from tests.integration.worker_parts import Stage, stage
from tests.unit.agents.scripts import real_estate

from callfleet.hostservices import RedisServer
from callfleet_simulator.people import Behaviour, Person
from callfleet_worker.supervisor.kube import BoundSession, SessionWatch

pytestmark = pytest.mark.speech

WORKER = "pool-test-0"
SCRIPT = real_estate().model_dump(mode="json", by_alias=True)
SESSIONS = "/apis/callfleet.dev/v1alpha1/namespaces/default/callsessions"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
async def kube(cluster: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionWatch]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    connected = await SessionWatch.connect("default", WORKER)
    yield connected
    await connected.close()


def create_session(cluster: ApiServer) -> str:
    name = f"spring-1-{uuid4().hex[:13]}"
    body = session_body(name, campaign="spring", contactID=str(uuid4()), maxDurationSeconds=60)
    cluster.request("POST", SESSIONS, body)
    return name


def bind(cluster: ApiServer, name: str, attempt: UUID, *, worker: str = WORKER, pod_uid: str = POD) -> None:
    """What the operator's bind writes."""
    attempt_status = {"id": str(attempt), "number": 1, "held": "0.036"}
    cluster.patch_status(
        "default", name, {"state": "Admitted", "worker": worker, "podUID": pod_uid, "attempt": attempt_status}
    )


def status_of(cluster: ApiServer, name: str) -> dict[str, Any]:
    status: dict[str, Any] = cluster.request("GET", f"{SESSIONS}/{name}")["status"]
    return status


async def first_bound(kube: SessionWatch, attempt: UUID) -> BoundSession:
    async with asyncio.timeout(20):
        async for session in kube.sessions():
            if session.attempt_id == attempt:
                return session
    raise AssertionError("the watch ended")


async def test_only_this_workers_sessions_are_seen_before_and_during_the_watch(
    cluster: ApiServer, kube: SessionWatch
) -> None:
    before, other, during = create_session(cluster), create_session(cluster), create_session(cluster)
    first, foreign, second = uuid4(), uuid4(), uuid4()
    bind(cluster, before, first)
    bind(cluster, other, foreign, worker="pool-test-1")
    seen: list[UUID] = []
    async with asyncio.timeout(20):
        async for session in kube.sessions():
            seen.append(session.attempt_id)
            if session.attempt_id == first:
                bind(cluster, during, second)
            if session.attempt_id == second:
                break
    assert foreign not in seen


async def test_progress_is_written_once_forwards_and_never_over_another_attempt(
    cluster: ApiServer, kube: SessionWatch
) -> None:
    name, attempt = create_session(cluster), uuid4()
    bind(cluster, name, attempt)
    assert await kube.report(name, attempt, "InProgress", "CA" + "1" * 32)
    status = status_of(cluster, name)
    assert (status["state"], status["callSID"]) == ("InProgress", "CA" + "1" * 32)
    assert [condition["type"] for condition in status["conditions"]] == ["Admitted", "Connected"]
    assert not await kube.report(name, attempt, "Dialing", None)
    assert not await kube.report(name, uuid4(), "InProgress", None)
    assert not await kube.report("no-such-session", attempt, "Dialing", None)
    assert status_of(cluster, name)["state"] == "InProgress"


async def test_a_conflicting_write_is_read_again(cluster: ApiServer, kube: SessionWatch) -> None:
    name, attempt = create_session(cluster), uuid4()
    bind(cluster, name, attempt)

    async def meddle() -> None:
        for index in range(20):
            await asyncio.to_thread(cluster.patch_status, "default", name, {"reason": f"R{index}"})

    results = await asyncio.gather(meddle(), kube.report(name, attempt, "Dialing", None))
    assert results[1]
    assert status_of(cluster, name)["state"] == "Dialing"


@asynccontextmanager
async def pod(
    on: Stage, cluster: ApiServer, answer: int = 200, **more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m callfleet_worker` with a pod's environment; yields it once /readyz gives `answer`, and its URL."""
    port = free_port()
    environment = {
        **on.environment, "KUBECONFIG": str(cluster.kubeconfig), "POD_NAME": WORKER, "POD_NAMESPACE": "default",
        "POD_UID": POD, "POD_IP": "127.0.0.1", "CALLFLEET_SLOTS": "1", "CALLFLEET_WORKER_PORT": str(port), **more,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "callfleet_worker", env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        await until(lambda: asyncio.to_thread(http_status, f"{url}/readyz"), answer)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def http_status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


async def test_a_bound_session_is_dialled_and_its_progress_written(
    cluster: ApiServer, engine: AsyncEngine, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    person = Person(name="Silent", ring_s=1.0, max_s=6.0)
    async with stage(engine, database_url, redis_server.url, person, silent=True) as on, pod(on, cluster) as (_, url):
        stray, name = create_session(cluster), create_session(cluster)
        attempt = await on.granted(SCRIPT)
        bind(cluster, stray, uuid4(), pod_uid="1b2a0000-0000-4000-8000-00000000dead")
        bind(cluster, name, attempt)
        await until_state(cluster, name, "InProgress")
        assert status_of(cluster, name)["callSID"].startswith("CA")
        assert status_of(cluster, stray)["state"] == "Admitted"
        assert await asyncio.to_thread(http_status, f"{url}/readyz") == 200
        assert (await on.rows("SELECT answered_at FROM dial_attempts"))[0]["answered_at"] is not None


async def test_a_pod_whose_memory_is_nearly_full_is_not_ready_and_says_why(
    cluster: ApiServer, engine: AsyncEngine, database_url: str, redis_server: RedisServer
) -> None:
    def names_memory(url: str) -> bool:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - loopback
                return False
        except urllib.error.HTTPError as error:
            return "of the memory" in error.read().decode()

    small = {"CALLFLEET_MEMORY_BYTES": str(300 << 20), "CALLFLEET_CPU_MILLIS": "2000"}
    someone = Person(name="Silent")
    async with (
        stage(engine, database_url, redis_server.url, someone, silent=True) as on,
        pod(on, cluster, 503, **small) as (_, url),
    ):
        await until(lambda: asyncio.to_thread(names_memory, url), True)
        assert await asyncio.to_thread(http_status, f"{url}/health") == 200


async def test_draining_takes_nothing_new_and_waits_for_the_live_call(
    cluster: ApiServer, engine: AsyncEngine, database_url: str, redis_server: RedisServer
) -> None:
    person = Person(name="Silent", ring_s=1.0, max_s=8.0)
    async with (
        stage(engine, database_url, redis_server.url, person, silent=True) as on,
        pod(on, cluster) as (process, url),
    ):
        name, late = create_session(cluster), create_session(cluster)
        attempt = await on.granted(SCRIPT)
        bind(cluster, name, attempt)
        await until_state(cluster, name, "InProgress")
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        bind(cluster, late, uuid4())
        assert await asyncio.to_thread(http_status, f"{url}/readyz") == 503
        assert await asyncio.wait_for(process.wait(), 90) == 0
        row = (await on.rows("SELECT end_status, duration_s FROM dial_attempts"))[0]
        assert row["end_status"] == "completed"
        assert row["duration_s"] >= 5
        assert status_of(cluster, late)["state"] == "Admitted"


async def until(look: Callable[[], Awaitable[Any]], wanted: Any, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while await look() != wanted:  # noqa: ASYNC110 - the world has no event to wait for
            await asyncio.sleep(0.2)


async def until_state(cluster: ApiServer, name: str, state: str) -> None:
    await until(lambda: asyncio.to_thread(lambda: status_of(cluster, name)["state"]), state)


async def state_of(on: Stage, attempt: UUID) -> str:
    return str((await on.rows("SELECT state FROM dial_attempts WHERE id = :id", id=attempt))[0]["state"])


async def test_a_busy_number_frees_the_slot_for_the_next_session(
    cluster: ApiServer, engine: AsyncEngine, database_url: str, redis_server: RedisServer
) -> None:
    person = Person(name="Busy", behaviour=Behaviour.BUSY, ring_s=0.5)
    async with stage(engine, database_url, redis_server.url, person) as on, pod(on, cluster) as (_, url):
        for contact in (0, 1):
            name = create_session(cluster)
            attempt = await on.granted(SCRIPT, contact=contact)
            bind(cluster, name, attempt)
            await until(functools.partial(state_of, on, attempt), "ended")
        assert await asyncio.to_thread(http_status, f"{url}/health") == 200
