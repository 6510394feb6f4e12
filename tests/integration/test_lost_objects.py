"""Objects are lost, come back, or are made again: PostgreSQL knows who was called, and nobody is called twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientConnectorError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.books import RING
from tests.integration.operator_parts import GROUP, Operator, operator, session_body, walk_attempts
from tests.integration.test_admission_queue import MERGE, begin, body, cycle, ready_pod

from callfleet_core.api.callsession import SessionState
from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_core.recovery import DatabaseReplacedError
from callfleet_operator.objects import Key, Session
from callfleet_operator.reconcile import budget, installation, session, witness

CAMPAIGN, BUDGET = "spring", "spring-money"
SID = "CA" + "1" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that no other test's objects are lost with."""
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@dataclass
class World:
    """A campaign of two people, by an operator that leads."""

    server: ApiServer
    operator: Operator
    space: str

    @property
    def sessions(self) -> list[Session]:
        """As the operator has seen them, in their contacts' order."""
        return sorted(self.operator.context.store.sessions(self.space), key=lambda item: item.position)

    def force(self, kind: str, name: str) -> None:
        """Deletes an object, and takes its finalizers away as somebody does who is tired of waiting."""
        path = f"{GROUP}/{self.space}/{kind}/{name}"
        self.server.request("DELETE", path)
        with suppress(HTTPError):  # it had none
            self.server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)

    async def make(self, people: int = 2) -> None:
        """Applies the campaign, and has its sessions made."""
        await begin(
            self.operator, self.space, body(self.space, CAMPAIGN, 0, people=people, budgetRefs=[{"name": BUDGET}])
        )
        await self.follow()

    async def make_again(self) -> None:
        """The campaign's sessions are made, where they went."""
        for _ in range(3):
            await self.follow()
            await self.operator.tend_sessions(self.space)

    async def sql(self, statement: str) -> Any:
        async with self.operator.context.engine.connect() as connection:
            return (await connection.execute(text(statement))).scalar()

    async def change(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Changes an object, and lets the operator follow."""
        self.server.request("PATCH", f"{GROUP}/{self.space}/{kind}/{name}", {"spec": spec}, MERGE)
        await self.follow()

    async def follow(self) -> None:
        """The operator sees what there is, and looks at the budget and the campaign."""
        await self.operator.see()
        await budget.reconcile(self.operator.context, Key("Budget", self.space, BUDGET))
        await self.operator.reconcile(self.space, CAMPAIGN)

    async def limit(self, total: str) -> None:
        await self.change("budgets", BUDGET, {"limits": {"total": total}})

    async def account(self, what: str) -> Any:
        """A column of the budget's account."""
        key = f"{self.space}/Budget/{BUDGET}/total"
        return await self.sql(f"SELECT {what} FROM accounts WHERE key = '{key}'")  # noqa: S608  # names of ours

    async def dial(self, admitted: Session) -> UUID:
        """Its worker calls."""
        context = self.operator.context
        attempt = UUID(admitted.status["attempt"]["id"])
        worker = DialStore(context.engine, RING.of_namespace(self.space))
        pod = context.store.pods(self.space)[0].meta.uid
        assert (await worker.begin_dial(attempt, pod, uuid4())).verdict == "go"
        await context.dialing.record_placed(attempt, SID)
        await context.dialing.record_answered(attempt, datetime.now(UTC), call_sid=SID)
        return attempt

    async def end(self, attempt: UUID) -> None:
        """The carrier says that it is over; it is settled."""
        evidence = EndEvidence(source="callback", status="completed", duration_s=70, at=datetime.now(UTC))
        assert await self.operator.context.dialing.record_ended(attempt, evidence)
        await walk_attempts(self.operator.context)
        await self.operator.see()

    async def call(self, admitted: Session) -> None:
        """Somebody is called, is settled, and the session has gone, as after its time to live."""
        context, name = self.operator.context, admitted.meta.name
        await self.end(await self.dial(admitted))
        await session.reconcile(context, Key("CallSession", self.space, name))
        self.server.request("DELETE", f"{GROUP}/{self.space}/callsessions/{name}")
        await self.operator.tend_sessions(self.space)
        assert context.store.session(self.space, name) is None


@pytest.fixture
async def world(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[World]:
    space = f"sales-{uuid4().hex[:8]}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    async with operator(engine, server) as running:
        await witness.begin(running.context)
        await installation.reconcile(running.context)
        running.apply(
            {
                "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
                "metadata": {"name": BUDGET, "namespace": space},
                "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": "5.00"}},
            }
        )  # fmt: skip
        world = World(server, running, space)
        await world.make()
        await ready_pod(running, space)
        yield world


async def test_a_restored_cluster_calls_nobody_again_and_its_limits_count(world: World, tmp_path: Path) -> None:
    context = world.operator.context
    await asyncio.to_thread(world.server.back_up, tmp_path / "backup")
    for total in ("6.00", "7.00", "8.00"):
        await world.limit(total)
    for pace in ("2", "3", "4"):
        await world.change("campaigns", CAMPAIGN, {"pacing": {"callsPerSecond": pace}})
    for _ in range(6):
        await witness.compare(context)
    first, second = await cycle(world.operator, world.space)
    assert {first.state, second.state} == {"Admitted"}
    await world.call(first)
    assert await world.account("limit_micros") == 8_000_000

    await asyncio.to_thread(world.server.restore, tmp_path / "backup")
    with pytest.raises(DatabaseReplacedError):
        await witness.compare(context)
    await context.ledger.take_epoch()  # whoever leads next
    context.trust.tokens = frozenset()
    await witness.begin(context)
    assert await world.sql("SELECT recovering_since IS NOT NULL FROM installation")
    await world.follow()
    assert {item.meta.name for item in context.store.sessions(world.space)} == {first.meta.name, second.meta.name}
    assert await world.account("limit_micros") == 5_000_000
    await world.limit("0.50")  # its second generation: the fourth was in force before
    assert await world.account("limit_micros") == 500_000
    await world.change("campaigns", CAMPAIGN, {"suspend": True})
    assert await world.sql("SELECT suspended FROM campaigns")
    await world.change("campaigns", CAMPAIGN, {"suspend": False})
    assert not await world.sql("SELECT suspended FROM campaigns")
    forgotten = "SELECT array_agg(subject ORDER BY subject) FROM audit_log WHERE action = 'generation.forget'"
    assert await world.sql(forgotten) == [f"{world.space}/Budget/{BUDGET}", f"{world.space}/Campaign/{CAMPAIGN}"]

    async with context.engine.begin() as connection:
        await connection.execute(text("SELECT recovery_end('a test', 'recovery.open', 'the calls were looked at')"))
    for _ in range(3):
        await walk_attempts(context)
        await cycle(world.operator, world.space)
        await world.operator.tend_sessions(world.space)
    assert await world.sql("SELECT count(*) FROM dial_attempts") == 2  # one for each, from before
    again = context.store.session(world.space, first.meta.name)
    assert again is not None
    assert (again.state, again.status["callSID"]) == (SessionState.COMPLETED, SID)  # as PostgreSQL has it


async def test_a_campaign_that_is_forced_away_in_a_call_is_settled_and_its_money_counted(world: World) -> None:
    first, second = await cycle(world.operator, world.space)
    talking = await world.dial(first)
    for name in (first.meta.name, second.meta.name):
        world.force("callsessions", name)
    world.force("campaigns", CAMPAIGN)
    await world.operator.see()
    assert world.sessions == []
    await walk_attempts(world.operator.context)  # what was only granted goes back, the call goes on
    states = f"SELECT string_agg(state, ' ' ORDER BY state) FROM dial_attempts WHERE namespace = '{world.space}'"  # noqa: S608
    assert await world.sql(states) == "placed revoked"
    await world.end(talking)
    assert await world.sql(states) == "revoked settled"
    assert await world.account("held_micros") == 0
    assert await world.account("spent_micros") > 0


@pytest.mark.parametrize("again", [False, True])
async def test_a_call_goes_on_when_its_session_goes_with_a_campaign_that_was_forced_away(
    world: World, again: bool
) -> None:
    """The collector deletes the sessions of an owner that is gone; `again`: another of its name is there by then."""
    first, second = await cycle(world.operator, world.space)
    talking = await world.dial(first)
    world.force("campaigns", CAMPAIGN)
    await world.operator.see()
    if again:
        world.operator.apply(body(world.space, CAMPAIGN, 0, people=2, budgetRefs=[{"name": BUDGET}]))
    for name in (first.meta.name, second.meta.name):
        world.server.request("DELETE", f"{GROUP}/{world.space}/callsessions/{name}")
    await world.operator.tend_sessions(world.space)
    assert [item.meta.name for item in world.sessions] == [first.meta.name]
    assert await world.sql(f"SELECT state FROM dial_attempts WHERE id = '{talking}'") == "placed"  # noqa: S608
    assert await world.sql(f"SELECT cancel_requested_at FROM dial_attempts WHERE id = '{talking}'") is None  # noqa: S608
    await world.end(talking)
    await world.operator.tend_sessions(world.space)
    assert world.sessions == []
    done = "SELECT string_agg(state, ' ') FROM campaign_contacts WHERE campaign = 'spring' AND state IS NOT NULL"
    assert await world.sql(done) == "Completed"


async def test_a_session_that_was_made_by_hand_ends_its_call_when_it_is_deleted(world: World) -> None:
    (first, second) = world.sessions
    for item in (first, second):
        world.force("callsessions", item.meta.name)
    spec = {"campaign": CAMPAIGN, "runID": "1", "contactID": first.spec.contact_id, "currency": "USD"}
    path = f"{GROUP}/{world.space}/callsessions"
    world.server.request("POST", path, session_body("by-hand", **spec))
    await world.operator.see()
    assert [item.status["reason"] for item in await cycle(world.operator, world.space)] == ["NoCapacity"]
    await world.operator.tend_sessions(world.space)
    (made,) = await cycle(world.operator, world.space)
    assert made.state is SessionState.ADMITTED
    world.server.request("DELETE", f"{path}/by-hand")
    await world.operator.tend_sessions(world.space)
    assert world.sessions == []
    assert await world.sql("SELECT string_agg(state, ' ') FROM dial_attempts") == "revoked"
    await world.make_again()  # and the campaign's own are made as if it had never been there
    assert len(world.sessions) == 2
    assert await world.sql("SELECT count(*) FROM campaign_contacts WHERE finished_at IS NOT NULL") == 0


async def test_who_was_called_for_a_campaign_that_was_forced_away_and_was_busy_is_tried_again_for_the_next(
    world: World,
) -> None:
    first, second = await cycle(world.operator, world.space)
    talking = await world.dial(first)
    world.force("campaigns", CAMPAIGN)
    await world.operator.see()
    retried = {"attempts": {"max": 2, "retryAfterMinutes": {"busy": 60}}, "budgetRefs": [{"name": BUDGET}]}
    world.operator.apply(body(world.space, CAMPAIGN, 0, people=2, **retried))
    for name in (first.meta.name, second.meta.name):
        world.server.request("DELETE", f"{GROUP}/{world.space}/callsessions/{name}")
    await world.operator.tend_sessions(world.space)
    evidence = EndEvidence(source="callback", status="busy", duration_s=None, at=datetime.now(UTC))
    assert await world.operator.context.dialing.record_ended(talking, evidence)
    await walk_attempts(world.operator.context)
    await world.operator.tend_sessions(world.space)
    assert world.sessions == []
    await world.make_again()
    (again, _) = await cycle(world.operator, world.space)
    assert (again.spec.contact_id, again.status["reason"]) == (first.spec.contact_id, "RetryScheduled")


async def test_a_call_that_was_being_canceled_is_still_canceled_when_its_campaign_is_forced_away(world: World) -> None:
    first, _ = await cycle(world.operator, world.space)
    talking = await world.dial(first)
    await world.operator.context.ledger.request_cancel(talking)
    world.force("campaigns", CAMPAIGN)
    await world.operator.see()
    world.server.request("DELETE", f"{GROUP}/{world.space}/callsessions/{first.meta.name}")
    await world.operator.see()
    with pytest.raises(ClientConnectorError):  # it asks the carrier, and there is none here
        await session.reconcile(world.operator.context, Key("CallSession", world.space, first.meta.name))


async def test_a_budget_that_is_made_again_in_another_currency_has_nobody_called(world: World) -> None:
    """No look has found it missing: the ledger has the first one's limit still."""
    world.force("budgets", BUDGET)
    world.operator.apply(
        {
            "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
            "metadata": {"name": BUDGET, "namespace": world.space},
            "spec": {"currency": "EUR", "timeZone": "UTC", "limits": {"total": "0.01"}, "suspend": True},
        }
    )  # fmt: skip
    await world.follow()
    assert [item.status["reason"] for item in await cycle(world.operator, world.space)] == ["BudgetNotFound"] * 2


async def test_a_campaign_that_is_made_again_in_a_call_calls_the_others_only(world: World) -> None:
    first, second = await cycle(world.operator, world.space)
    talking = await world.dial(first)
    for name in [item.meta.name for item in world.sessions]:
        world.force("callsessions", name)
    world.force("campaigns", CAMPAIGN)
    await world.operator.see()
    await walk_attempts(world.operator.context)
    await world.make()
    assert len(world.sessions) == 2
    for _ in range(3):
        await cycle(world.operator, world.space)
    dialled = "SELECT count(*) FROM dial_attempts WHERE contact_id = '{}' AND state <> 'revoked'"
    one, other = first.spec.contact_id, second.spec.contact_id
    assert [await world.sql(dialled.format(contact)) for contact in (one, other)] == [1, 1]
    await world.end(talking)
    await world.operator.tend_sessions(world.space)
    for _ in range(3):
        await cycle(world.operator, world.space)
    assert await world.sql(dialled.format(one)) == 1
    again = world.operator.context.store.session(world.space, first.meta.name)
    assert again is not None
    assert again.state is SessionState.COMPLETED


async def test_a_budget_that_is_made_again_keeps_what_was_spent(world: World) -> None:
    (first, _) = await cycle(world.operator, world.space)
    await world.end(await world.dial(first))
    spent = await world.account("spent_micros")
    world.force("budgets", BUDGET)
    await world.operator.see()
    await budget.reconcile(world.operator.context, Key("Budget", world.space, BUDGET))
    assert await world.account("closed")
    world.operator.apply(
        {
            "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
            "metadata": {"name": BUDGET, "namespace": world.space},
            "spec": {"currency": "USD", "timeZone": "UTC", "limits": {"total": "2.00"}},
        }
    )  # fmt: skip
    await world.follow()
    found = [await world.account(what) for what in ("limit_micros", "spent_micros", "closed")]
    assert found == [2_000_000, spent, False]
