"""Two operators, as kopf runs them, on a real API server and PostgreSQL: one leads, the other follows it."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, free_port
from tests.integration.books import Books, open_books
from tests.integration.operator_parts import GROUP, operator_environment
from tests.integration.restored import MERGE

from callfleet_operator.engine import BEGIN_WITHIN_S

NAMESPACE = "default"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/callfleet-operator"
WITNESS = f"/api/v1/namespaces/{NAMESPACE}/configmaps/callfleet-ledger-witness"
START_TIMEOUT_S = 40.0


@dataclass
class Operators:
    """Real operator processes by their identities."""

    server: ApiServer
    books: Books
    folder: Path
    processes: dict[str, asyncio.subprocess.Process]
    health: dict[str, str]

    async def start(self, identity: str) -> None:
        """One more."""
        environment = operator_environment(self.books.engine, self.server) | {
            "CALLFLEET_IDENTITY": identity, "CALLFLEET_METRICS_PORT": str(free_port()),
        }  # fmt: skip
        self.health[identity] = f"http://127.0.0.1:{free_port()}/healthz"
        with (self.folder / identity).open("w") as log:
            self.processes[identity] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kopf", "run", "--all-namespaces", "-m", "callfleet_operator.main",
                f"--liveness={self.health[identity]}",
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def leader(
        self, *, other_than: str = "", since_epoch: int | None = None, within_s: float = START_TIMEOUT_S
    ) -> tuple[str, float]:
        """Who holds the Lease and has taken an epoch, and after how many seconds; `since_epoch`: the one before."""
        began = time.monotonic()
        epoch = await self.epoch() if since_epoch is None else since_epoch
        while time.monotonic() - began < within_s:
            holder = (await self.lease())["spec"].get("holderIdentity", "")
            if holder and holder != other_than and (not other_than or await self.epoch() > epoch):
                return holder, time.monotonic() - began
            await asyncio.sleep(0.1)
        logs = {name: (self.folder / name).read_text()[-2_000:] for name in self.processes}
        raise AssertionError(f"nobody leads within {within_s} s: {await self.lease()} {logs}")

    async def is_healthy(self, identity: str) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(self.health[identity])).status_code == 200
        except httpx.TransportError:
            return False

    async def lease(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await asyncio.to_thread(self.server.request, "GET", LEASES)
        except HTTPError as error:
            if error.code != 404:
                raise
            return {"spec": {}}
        return found

    async def epoch(self) -> int:
        return int(await self.books.sql("SELECT epoch FROM installation"))

    async def end(self, identity: str, number: signal.Signals) -> int:
        """Sends a signal and waits for the process's end."""
        process = self.processes.pop(identity)
        if process.returncode is None:
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), 30)

    async def budget_in_force(self, within_s: float = 15.0) -> None:
        """A new Budget is put into the ledger by whoever leads."""
        name = f"budget-{uuid4().hex[:8]}"
        spec = {"currency": "USD", "timeZone": "UTC", "limits": {"total": "5.00"}}
        body = {
            "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        }  # fmt: skip
        await asyncio.to_thread(self.server.request, "POST", f"{GROUP}/default/budgets", body)
        await until(
            lambda: self.books.sql("SELECT count(*) FROM accounts WHERE name = :name", name=name), bool, within_s
        )


async def until(look: Callable[[], Awaitable[Any]], right: Callable[[Any], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not right(await look()):  # noqa: ASYNC110 - the world has no event to wait for
            await asyncio.sleep(0.1)


@asynccontextmanager
async def operators(server: ApiServer, books: Books, folder: Path) -> AsyncIterator[Operators]:
    found = Operators(server, books, folder, {}, {})
    try:
        yield found
    finally:
        for identity in list(found.processes):
            await found.end(identity, signal.SIGKILL)


@pytest.fixture
async def pair(server: ApiServer, engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Operators]:
    for left in (LEASES, WITNESS):  # by the test before, whose database was another
        with suppress(HTTPError):
            server.request("DELETE", left)
    async with operators(server, await open_books(engine, people=1), tmp_path) as found:
        await found.start("first")
        assert (await found.leader())[0] == "first"
        await found.start("second")
        await found.budget_in_force()
        await asyncio.sleep(5)  # the second one watches, and does nothing else
        yield found


async def test_one_that_dies_is_followed_within_fifteen_seconds(pair: Operators) -> None:
    assert (await pair.lease())["spec"]["holderIdentity"] == "first"
    epoch = await pair.epoch()
    await pair.end("first", signal.SIGKILL)
    leader, took_s = await pair.leader(other_than="first")
    assert (leader, await pair.epoch()) == ("second", epoch + 1)
    assert took_s < 15
    await pair.budget_in_force()


async def test_one_that_is_told_to_go_lets_the_other_lead_at_once(pair: Operators) -> None:
    epoch = await pair.epoch()
    await pair.end("first", signal.SIGTERM)  # the other one may lead before this one has ended
    leader, took_s = await pair.leader(other_than="first", since_epoch=epoch)
    assert leader == "second"
    assert took_s < 5
    await pair.budget_in_force()


async def test_one_that_was_stopped_for_a_while_does_not_lead_on(pair: Operators) -> None:
    """A whole process that stood still, as on a frozen node: another leads, and it ends when it wakes up."""
    first = pair.processes["first"]
    first.send_signal(signal.SIGSTOP)
    await pair.leader(other_than="first")
    first.send_signal(signal.SIGCONT)
    await asyncio.wait_for(first.wait(), 30)
    assert (await pair.lease())["spec"]["holderIdentity"] == "second"
    await pair.budget_in_force()


async def test_one_that_stands_by_is_ready_at_once(pair: Operators) -> None:
    """It does not wait to lead before it watches: a rollout waits for its readiness."""
    await pair.start("third")
    await until(lambda: pair.is_healthy("third"), bool, BEGIN_WITHIN_S / 2)
    assert (await pair.lease())["spec"]["holderIdentity"] == "first"


async def test_one_whose_pod_starts_again_leads_on_at_once(pair: Operators) -> None:
    await pair.end("second", signal.SIGKILL)
    epoch = await pair.epoch()
    await pair.end("first", signal.SIGKILL)
    await pair.start("first")
    await until(pair.epoch, lambda found: found > epoch, START_TIMEOUT_S)
    await pair.budget_in_force()
    assert (await pair.lease())["spec"]["holderIdentity"] == "first"


async def test_a_changed_limit_is_in_force_within_two_seconds(pair: Operators) -> None:
    name = f"budget-{uuid4().hex[:8]}"
    body = {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": {"name": name, "namespace": "default"},
        "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": "5.00"}},
    }  # fmt: skip
    path = f"{GROUP}/default/budgets"
    await asyncio.to_thread(pair.server.request, "POST", path, body)
    limit = "SELECT limit_micros FROM accounts WHERE name = :name AND time_window = 'total'"
    await until(lambda: pair.books.sql(limit, name=name), (5_000_000).__eq__, 15)
    for total, micros in (("0.01", 10_000), ("7.00", 7_000_000)):
        wanted = {"spec": {"limits": {"total": total}}}
        await asyncio.to_thread(pair.server.request, "PATCH", f"{path}/{name}", wanted, MERGE)
        await until(lambda: pair.books.sql(limit, name=name), micros.__eq__, 2)
        assert await pair.books.sql(limit, name=name) == micros
