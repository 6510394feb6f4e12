"""The API server goes away and comes back: the operator follows by itself, and does nothing twice (docs/outages.md)."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.books import open_books
from tests.integration.own_postgres import own_postgres
from tests.integration.test_leadership import Operators, operators, until

from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate

PROCESS = "the-pod"  # a pod's processes share its identity
FOLLOWS_WITHIN_S = 20.0


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@asynccontextmanager
async def kubelet(pod: Operators) -> AsyncIterator[list[int]]:
    """Starts the process again, whenever it ends, without a kubelet's growing pauses; yields its exit codes."""
    ends: list[int] = []

    async def keep() -> None:
        while True:
            ends.append(await pod.processes[PROCESS].wait())
            await asyncio.sleep(1)
            await pod.start(PROCESS)

    keeping = asyncio.create_task(keep())
    try:
        yield ends
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


@pytest.fixture
async def pod(server: ApiServer, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Operators]:
    async with operators(server, await open_books(engine, people=1), tmp_path) as found:
        await found.start(PROCESS)
        await found.leader()
        await found.budget_in_force()
        yield found


def events(pod: Operators) -> list[str]:
    """What the process that runs now has logged."""
    lines = (pod.folder / PROCESS).read_text().splitlines()
    return [str(json.loads(line)["event"]) for line in lines if line.startswith("{")]


async def test_an_operator_ends_waits_and_leads_again_when_the_api_server_is_back(pod: Operators) -> None:
    epoch = await pod.epoch()
    async with kubelet(pod) as ends:
        pod.server.stop()
        await until(lambda: _waiting(pod), bool, 30)  # it has lost the lead, was started again, and waits
        assert (len(ends), await pod.epoch()) == (1, epoch)
        before = len(events(pod))
        await asyncio.sleep(10)
        assert len(ends) == 1
        assert len(events(pod)) - before < 10  # a line for each try, every five seconds
        await asyncio.to_thread(pod.server.start)
        await until(pod.epoch, lambda found: found > epoch, FOLLOWS_WITHIN_S)
        await pod.budget_in_force()
        assert len(ends) == 1


async def test_an_operator_that_waits_ends_at_once_when_it_is_told_to(pod: Operators) -> None:
    await pod.end(PROCESS, signal.SIGKILL)
    pod.server.stop()
    await pod.start(PROCESS)
    await until(lambda: _waiting(pod), bool, 30)
    process = pod.processes[PROCESS]
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_an_operator_that_starts_without_postgresql_waits_for_it(server: ApiServer, tmp_path: Path) -> None:
    with own_postgres() as postgresql:
        migrate(postgresql.url)
        engine = create_engine(postgresql.url)
        async with operators(server, await open_books(engine, people=1), tmp_path) as pod:
            before = await pod.epoch()
            await asyncio.to_thread(postgresql.stop)
            await pod.start(PROCESS)
            await until(lambda: _waiting(pod), bool, 30)
            await asyncio.to_thread(postgresql.start)
            await until(pod.epoch, lambda found: found > before, FOLLOWS_WITHIN_S)
            await pod.budget_in_force()
            assert pod.processes[PROCESS].returncode is None
            assert postgresql.password not in (tmp_path / PROCESS).read_text()
        await engine.dispose()


async def test_what_ended_while_no_operator_was_there_is_settled_by_the_next(
    server: ApiServer, engine: AsyncEngine, tmp_path: Path
) -> None:
    async with operators(server, await open_books(engine), tmp_path) as pod:
        books = pod.books
        attempt = await books.held()  # an earlier operator's
        await books.dialed(attempt)
        await books.ended(attempt)  # the gateway's word: a call and its books need no operator
        assert (await books.budget())[0] > 0
        await pod.start(PROCESS)
        await until(lambda: books.sql("SELECT state FROM dial_attempts WHERE id = :id", id=attempt), _is_settled, 40)
        assert (await books.budget())[0] == 0


def _is_settled(state: str) -> bool:
    return state == "settled"


async def _waiting(pod: Operators) -> bool:
    return any("does not answer; waiting" in event for event in events(pod))
