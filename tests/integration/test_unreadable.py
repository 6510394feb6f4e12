"""Objects of another release's schema: they are told so, nobody is called for them, and they can go."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.operator_parts import GROUP, Operator, campaign_body

from callfleet_operator.objects import Key
from callfleet_operator.reconcile import budget, campaign, session
from callfleet_operator.reconcile.snapshot import covering_accounts, namespace_budgets

NAME = "spring"
PERSON = {"phone": "+15550100150", "consent": {"kind": "written", "source": "form", "time": "2026-01-01T00:00:00Z"}}


def seen_as_unreadable(running: Operator, kind: str, path: str) -> Key:
    """The object as it is, but for what another release's schema allowed."""
    body = running.server.request("GET", path)
    body["spec"]["currency"] = 17
    running.context.store.forget(kind)
    key = running.context.store.apply(kind, body)
    assert key is not None
    return key


def condition(body: dict[str, Any], kind: str) -> tuple[str, str, str]:
    found = next(item for item in body["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"], found["message"]


async def may_dial(engine: AsyncEngine, namespace: str) -> bool:
    async with engine.connect() as connection:
        query = text("SELECT NOT (suspended OR closed) FROM campaigns WHERE namespace = :namespace")
        return bool((await connection.execute(query, {"namespace": namespace})).scalar_one())


async def test_a_campaign_says_what_is_wrong_calls_nobody_and_is_served_once_it_can_be_read(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    running.apply(campaign_body(namespace, NAME, contacts={"inline": [PERSON]}))
    for _ in range(2):
        served = await running.reconcile(namespace, NAME)
    assert condition(served, "Ready")[0] == "True"
    assert await may_dial(engine, namespace)

    path = f"{GROUP}/{namespace}/campaigns/{NAME}"
    key = seen_as_unreadable(running, "Campaign", path)
    await campaign.reconcile(running.context, key)
    told = running.server.request("GET", path)
    assert condition(told, "Ready")[:2] == ("False", "InvalidSpec")
    assert condition(told, "Stalled")[:2] == ("True", "InvalidSpec")
    assert "spec.currency" in condition(told, "Stalled")[2]
    assert condition(told, "ContactsLoaded")[0] == "True"  # what else it said stays
    assert not await may_dial(engine, namespace)
    seen_as_unreadable(running, "Campaign", path)
    await campaign.reconcile(running.context, key)  # says it once
    assert running.server.request("GET", path)["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]

    running.context.store.forget("Campaign")
    served = await running.reconcile(namespace, NAME)
    assert condition(served, "Ready")[0] == "True"
    assert condition(served, "Stalled")[0] == "False"
    assert await may_dial(engine, namespace)


async def test_a_budget_says_what_is_wrong_and_holds_nothing(running: Operator, namespace: str) -> None:
    body = {
        "apiVersion": "callfleet.dev/v1alpha1",
        "kind": "Budget",
        "metadata": {"name": "us", "namespace": namespace},
    }
    running.apply({**body, "spec": {"limits": {"total": "5.00"}}})
    await running.see()
    await budget.reconcile(running.context, Key("Budget", namespace, "us"))
    path = f"{GROUP}/{namespace}/budgets/us"
    assert condition(running.server.request("GET", path), "Ready")[0] == "True"
    key = seen_as_unreadable(running, "Budget", path)
    await budget.reconcile(running.context, key)
    assert condition(running.server.request("GET", path), "Stalled")[:2] == ("True", "InvalidSpec")
    balance = await running.context.ledger.balance(f"{namespace}/Budget/us/total")
    assert balance is not None
    assert balance.closed


async def test_a_budget_that_covers_its_namespace_goes_on_covering_it_when_it_cannot_be_read(
    running: Operator, namespace: str
) -> None:
    for name, scope in (("all", "Namespace"), ("some", "Referenced")):
        meta = {"name": name, "namespace": namespace}
        spec = {"scope": scope, "limits": {"total": "5.00"}}
        running.apply({"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": meta, "spec": spec})
    running.apply(campaign_body(namespace, NAME, contacts={"inline": [PERSON]}))
    await running.see()
    spring = running.context.store.campaign(namespace, NAME)
    assert spring is not None
    covering = namespace_budgets(running.context)
    assert covering[namespace] == {"all"}
    accounts, found = covering_accounts(running.context, spring, running.context.now(), covering)
    assert found
    assert f"{namespace}/Budget/all/total" in accounts
    for name, covers in (("some", None), ("all", {"all"})):
        seen_as_unreadable(running, "Budget", f"{GROUP}/{namespace}/budgets/{name}")
        assert namespace_budgets(running.context).get(namespace) == covers
    assert covering_accounts(running.context, spring, running.context.now(), covering)[1] is False


async def test_what_cannot_be_read_can_be_deleted(running: Operator, namespace: str) -> None:
    running.apply(campaign_body(namespace, NAME, contacts={"inline": [PERSON]}))
    for _ in range(2):
        await running.reconcile(namespace, NAME)
    (waiting,) = running.context.store.sessions_of(namespace, NAME)
    sessions = f"{GROUP}/{namespace}/callsessions"
    for path, kind, reconcile in (
        (f"{sessions}/{waiting.meta.name}", "CallSession", session.reconcile),
        (f"{GROUP}/{namespace}/campaigns/{NAME}", "Campaign", campaign.reconcile),
    ):
        running.server.request("DELETE", path)
        await reconcile(running.context, seen_as_unreadable(running, kind, path))
        folder, _, name = path.rpartition("/")
        assert name not in {item["metadata"]["name"] for item in running.server.request("GET", folder)["items"]}
