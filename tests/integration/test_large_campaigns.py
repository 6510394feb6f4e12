"""A campaign of a hundred thousand contacts: what one look at it asks of PostgreSQL stays small."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.books import CONSENT, KEY, number
from tests.integration.operator_parts import Operator, campaign_body, operator

from callfleet_core.contactlist import Row, read_contacts
from callfleet_core.contacts import contact_id
from callfleet_core.lists import ContactLists

NAMESPACE, NAME, LIST = "default", "everybody", "spring-2026"
EVERYBODY, LOOK_AHEAD = 100_000, 20
# Beside the contacts that are due: limits, balances, counts, versions.
FEW = 10
SPEC: dict[str, Any] = {"contacts": {"listRef": {"name": LIST}}, "lookAhead": LOOK_AHEAD}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
async def running(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Operator]:
    async with operator(engine, server) as running:
        yield running
    for session in server.request("GET", f"{SESSIONS}")["items"]:
        path = f"{SESSIONS}/{session['metadata']['name']}"
        server.request("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
        server.request("DELETE", path)
    path = f"/apis/callfleet.dev/v1alpha1/namespaces/{NAMESPACE}/campaigns/{NAME}"
    server.request("PATCH", path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    server.request("DELETE", path)


SESSIONS = f"/apis/callfleet.dev/v1alpha1/namespaces/{NAMESPACE}/callsessions"


def people(*ranges: range) -> Iterator[Row]:
    def lines() -> Iterator[str]:
        yield "phone,consent_kind,consent_source,consent_time\n"
        for indexes in ranges:
            for index in indexes:
                yield f"{number(index)},{CONSENT.kind},{CONSENT.source},{CONSENT.given_at.isoformat()}\n"

    return read_contacts(lines())


def contacts_of(running: Operator) -> set[str]:
    return {item.spec.contact_id for item in running.context.store.sessions(NAMESPACE, NAME)}


def ids(*indexes: int) -> set[str]:
    return {str(contact_id(NAMESPACE, number(index), KEY)) for index in indexes}


def loaded(campaign: dict[str, Any]) -> tuple[str, str]:
    condition = next(item for item in campaign["status"]["conditions"] if item["type"] == "ContactsLoaded")
    return condition["status"], condition["message"]


async def test_a_hundred_thousand_contacts_are_never_read_at_once(engine: AsyncEngine, running: Operator) -> None:
    lists = ContactLists(engine)
    await lists.import_rows(NAMESPACE, LIST, people(range(EVERYBODY)), KEY)
    running.apply(campaign_body(NAMESPACE, NAME, **SPEC))
    running.queries.clear()
    await running.reconcile(NAMESPACE, NAME)  # its finalizer
    campaign = await running.reconcile(NAMESPACE, NAME)  # takes the list, makes the first sessions
    assert campaign["status"]["progress"] == f"0/{EVERYBODY}"
    assert loaded(campaign) == ("True", f"{EVERYBODY} contacts")
    assert contacts_of(running) == ids(*range(LOOK_AHEAD))
    assert max(running.queries.rows) <= LOOK_AHEAD
    async with engine.begin() as connection:  # most of them were called meanwhile
        done = (
            "UPDATE campaign_contacts SET state = 'Completed', finished_at = now() WHERE position BETWEEN 20 AND 89999"
        )
        await connection.execute(text(done))
    running.queries.clear()
    campaign = await running.reconcile(NAMESPACE, NAME)
    assert campaign["status"]["progress"] == f"{90_000 - LOOK_AHEAD}/{EVERYBODY}"
    assert sum(running.queries.rows) <= LOOK_AHEAD + FEW
    assert running.queries.statements <= 2 * FEW


async def test_a_campaign_follows_its_list(engine: AsyncEngine, running: Operator) -> None:
    lists = ContactLists(engine)
    running.apply(campaign_body(NAMESPACE, NAME, **SPEC))
    await running.reconcile(NAMESPACE, NAME)
    campaign = await running.reconcile(NAMESPACE, NAME)
    assert loaded(campaign) == (
        "False",
        "list spring-2026 is not there: import it with callfleet contacts import"
        " --namespace default --list spring-2026 FILE.csv",
    )
    await lists.import_rows(NAMESPACE, LIST, people(range(4)), KEY)
    await running.reconcile(NAMESPACE, NAME)
    assert contacts_of(running) == ids(0, 1, 2, 3)
    await lists.import_rows(NAMESPACE, LIST, people(range(2, 6)), KEY)
    campaign = await running.reconcile(NAMESPACE, NAME)
    waiting = {item.spec.contact_id for item in running.context.store.sessions() if not item.meta.deleted}
    assert waiting == ids(2, 3, 4, 5)
    assert campaign["status"]["progress"] == "0/4"
