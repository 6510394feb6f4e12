"""Kubernetes is restored from a backup of etcd: what PostgreSQL knows of later goes on, and nobody is called twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.books import RING
from tests.integration.operator_parts import GROUP, Operator, operator
from tests.integration.test_admission_queue import MERGE, begin, body, cycle, ready_pod

from callfleet_core.api.callsession import SessionState
from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_core.recovery import DatabaseReplacedError
from callfleet_operator.objects import Key, Session
from callfleet_operator.reconcile import attempts, budget, installation, session, witness

SPACE, CAMPAIGN, BUDGET = "sales", "spring", "spring-money"
SID = "CA" + "1" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that no other test's objects are lost with."""
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
        yield server


@dataclass
class World:
    """A campaign of two people, by an operator that leads."""

    server: ApiServer
    operator: Operator

    async def sql(self, statement: str) -> Any:
        async with self.operator.context.engine.connect() as connection:
            return (await connection.execute(text(statement))).scalar()

    async def change(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Changes an object, and lets the operator follow."""
        self.server.request("PATCH", f"{GROUP}/{SPACE}/{kind}/{name}", {"spec": spec}, MERGE)
        await self.follow()

    async def follow(self) -> None:
        """The operator sees what there is, and looks at the budget and the campaign."""
        await self.operator.see()
        await budget.reconcile(self.operator.context, Key("Budget", SPACE, BUDGET))
        await self.operator.reconcile(SPACE, CAMPAIGN)

    async def limit(self, total: str) -> None:
        await self.change("budgets", BUDGET, {"limits": {"total": total}})

    async def limit_in_force(self) -> int:
        return int(await self.sql(f"SELECT limit_micros FROM accounts WHERE name = '{BUDGET}'"))  # noqa: S608

    async def call(self, admitted: Session) -> None:
        """Somebody is called and answers, is settled, and the session has gone, as after its time to live."""
        context, name = self.operator.context, admitted.meta.name
        worker = DialStore(context.engine, RING.of_namespace(SPACE))
        attempt = UUID(admitted.status["attempt"]["id"])
        pod = context.store.pods(SPACE)[0].meta.uid
        assert (await worker.begin_dial(attempt, pod, uuid4())).verdict == "go"
        await context.dialing.record_placed(attempt, SID)
        evidence = EndEvidence(source="callback", status="completed", duration_s=70, at=datetime.now(UTC))
        assert await context.dialing.record_ended(attempt, evidence)
        await attempts.reconcile(context)
        await self.operator.see()
        await session.reconcile(context, Key("CallSession", SPACE, name))
        path = f"{GROUP}/{SPACE}/callsessions/{name}"
        self.server.request("DELETE", path)
        await self.operator.tend_sessions(SPACE)
        assert self.operator.context.store.session(SPACE, name) is None


@pytest.fixture
async def world(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[World]:
    async with operator(engine, server) as running:
        await witness.begin(running.context)
        await installation.reconcile(running.context)
        running.apply(
            {
                "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
                "metadata": {"name": BUDGET, "namespace": SPACE},
                "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": "5.00"}},
            }
        )  # fmt: skip
        world = World(server, running)
        await begin(running, SPACE, body(SPACE, CAMPAIGN, 0, people=2, budgetRefs=[{"name": BUDGET}]))
        await world.follow()
        yield world


async def test_a_restored_cluster_calls_nobody_again_and_its_limits_count(world: World, tmp_path: Path) -> None:
    context = world.operator.context
    await ready_pod(world.operator, SPACE)
    await asyncio.to_thread(world.server.back_up, tmp_path / "backup")
    for total in ("6.00", "7.00", "8.00"):
        await world.limit(total)
    for pace in ("2", "3", "4"):
        await world.change("campaigns", CAMPAIGN, {"pacing": {"callsPerSecond": pace}})
    for _ in range(6):
        await witness.compare(context)
    first, second = await cycle(world.operator, SPACE)
    assert {first.state, second.state} == {"Admitted"}
    await world.call(first)
    assert await world.limit_in_force() == 8_000_000

    await asyncio.to_thread(world.server.restore, tmp_path / "backup")
    with pytest.raises(DatabaseReplacedError):
        await witness.compare(context)
    await context.ledger.take_epoch()  # whoever leads next
    context.trust.tokens = frozenset()
    await witness.begin(context)
    assert await world.sql("SELECT recovering_since IS NOT NULL FROM installation")
    await world.follow()
    assert {item.meta.name for item in context.store.sessions(SPACE)} == {first.meta.name, second.meta.name}
    assert await world.limit_in_force() == 5_000_000
    await world.limit("0.50")  # its second generation: the fourth was in force before
    assert await world.limit_in_force() == 500_000
    await world.change("campaigns", CAMPAIGN, {"suspend": True})
    assert await world.sql("SELECT suspended FROM campaigns")
    await world.change("campaigns", CAMPAIGN, {"suspend": False})
    assert not await world.sql("SELECT suspended FROM campaigns")
    forgotten = "SELECT array_agg(subject ORDER BY subject) FROM audit_log WHERE action = 'generation.forget'"
    assert await world.sql(forgotten) == [f"{SPACE}/Budget/{BUDGET}", f"{SPACE}/Campaign/{CAMPAIGN}"]

    async with context.engine.begin() as connection:
        await connection.execute(text("SELECT recovery_end('a test', 'recovery.open', 'the calls were looked at')"))
    for _ in range(3):
        await attempts.reconcile(context)
        await cycle(world.operator, SPACE)
        await world.operator.tend_sessions(SPACE)
    assert await world.sql("SELECT count(*) FROM dial_attempts") == 2  # one for each, from before
    again = context.store.session(SPACE, first.meta.name)
    assert again is not None
    assert (again.state, again.status["callSID"]) == (SessionState.COMPLETED, SID)  # as PostgreSQL has it
