"""A campaign of a hundred thousand contacts: what one look at it asks of PostgreSQL stays small."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import KEY, SUBJECTS, Books, number
from tests.integration.operator_parts import GROUP, Operator, campaign_body
from tests.integration.waiting_parts import people

from callfleet_core.contacts import contact_id
from callfleet_core.ledger import account_key
from callfleet_core.lists import ContactLists
from callfleet_core.runs import Run
from callfleet_operator.apiserver import MERGE_PATCH
from callfleet_operator.objects import Session, parse_time
from callfleet_operator.reconcile import contacts

NAME, LIST = "everybody", "spring-2026"
EVERYBODY, LOOK_AHEAD = 100_000, 20
# Beside the contacts that are due: limits, balances, counts, versions.
FEW = 10
SPEC: dict[str, Any] = {"contacts": {"listRef": {"name": LIST}}, "lookAhead": LOOK_AHEAD}


def waiting(running: Operator, namespace: str) -> set[str]:
    return {
        item.spec.contact_id for item in running.context.store.sessions_of(namespace, NAME) if not item.meta.deleted
    }


def ids(namespace: str, *indexes: int) -> set[str]:
    return {str(contact_id(namespace, number(index), KEY)) for index in indexes}


def loaded(campaign: dict[str, Any]) -> tuple[str, str]:
    condition = next(item for item in campaign["status"]["conditions"] if item["type"] == "ContactsLoaded")
    return condition["status"], condition["message"]


async def test_a_hundred_thousand_contacts_are_never_read_at_once(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    await ContactLists(engine).import_rows(namespace, LIST, people(*range(EVERYBODY)), SUBJECTS)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    running.queries.clear()
    await running.reconcile(namespace, NAME)  # its finalizer
    campaign = await running.reconcile(namespace, NAME)  # takes the list, makes the first sessions
    assert campaign["status"]["progress"] == f"0/{EVERYBODY}"
    assert loaded(campaign) == ("True", f"{EVERYBODY} contacts")
    assert waiting(running, namespace) == ids(namespace, *range(LOOK_AHEAD))
    assert max(running.queries.rows) <= LOOK_AHEAD
    async with engine.begin() as connection:  # most of them were called meanwhile
        done = (
            "UPDATE campaign_contacts SET state = 'Completed', finished_at = now() WHERE position BETWEEN 20 AND 89999"
        )
        await connection.execute(text(done))
    running.queries.clear()
    campaign = await running.reconcile(namespace, NAME)
    assert campaign["status"]["progress"] == f"{90_000 - LOOK_AHEAD}/{EVERYBODY}"
    assert sum(running.queries.rows) <= LOOK_AHEAD + FEW
    assert running.queries.statements <= 3 * FEW


async def test_a_campaign_follows_its_list(engine: AsyncEngine, running: Operator, namespace: str) -> None:
    lists = ContactLists(engine)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    await running.reconcile(namespace, NAME)
    campaign = await running.reconcile(namespace, NAME)
    assert loaded(campaign) == (
        "False",
        "list spring-2026 is not there: import it with callfleet contacts import"
        f" --namespace {namespace} --list spring-2026 FILE.csv",
    )
    await lists.import_rows(namespace, LIST, people(0, 1, 2, 3), SUBJECTS)
    await running.reconcile(namespace, NAME)
    assert waiting(running, namespace) == ids(namespace, 0, 1, 2, 3)
    await lists.import_rows(namespace, LIST, people(2, 3, 4, 5), SUBJECTS)
    campaign = await running.reconcile(namespace, NAME)
    assert waiting(running, namespace) == ids(namespace, 2, 3, 4, 5)
    assert campaign["status"]["progress"] == "0/4"


async def test_a_wrong_import_that_is_corrected_costs_nobody_their_call(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    lists = ContactLists(engine)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    await running.reconcile(namespace, NAME)
    for right_or_wrong in ((0, 1), (7,), (0, 1)):
        await lists.import_rows(namespace, LIST, people(*right_or_wrong), SUBJECTS)
        await running.reconcile(namespace, NAME)
        await running.tend_sessions(namespace)
        campaign = await running.reconcile(namespace, NAME)
        assert waiting(running, namespace) == ids(namespace, *right_or_wrong)
        assert campaign["status"]["progress"] == f"0/{len(right_or_wrong)}"


async def test_numbers_of_a_status_are_written_together_and_what_is_waited_for_at_once(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    await ContactLists(engine).import_rows(namespace, LIST, people(0, 1), SUBJECTS)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    for _ in range(2):
        before = await running.reconcile(namespace, NAME)
    running.context.numbers_wait = True
    told = parse_time(before["status"]["contacts"]["asOf"])

    async def progress(done: int, after_s: float) -> str:
        person = UUID(sorted(ids(namespace, 0, 1))[done - 1])
        await running.context.runs.finish(Run(namespace, NAME, "1"), person, state="Completed", disposition="busy")
        running.context.now = lambda: told + timedelta(seconds=after_s)
        return str((await running.reconcile(namespace, NAME))["status"]["progress"])

    assert await progress(1, after_s=1) == "0/2"
    assert await progress(1, after_s=2) == "1/2"
    assert await progress(2, after_s=3) == "2/2"  # it is finished


async def test_a_run_that_comes_back_calls_those_who_were_not_called(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    await ContactLists(engine).import_rows(namespace, LIST, people(0, 1, 2), SUBJECTS)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    for _ in range(2):
        await running.reconcile(namespace, NAME)
    called, canceled, _ = sorted(running.context.store.sessions_of(namespace, NAME), key=lambda item: item.meta.name)
    run = Run(namespace, NAME, "1")
    await running.context.runs.finish(run, UUID(called.spec.contact_id), state="Completed", disposition="qualified")
    sessions = f"{GROUP}/{namespace}/callsessions"
    running.server.patch_status(namespace, called.meta.name, {"state": "Completed"})
    running.server.request("PATCH", f"{sessions}/{canceled.meta.name}", {"spec": {"cancel": True}}, MERGE_PATCH)
    await running.tend_sessions(namespace)
    for run_id, due in (("2", ids(namespace, 0, 1, 2)), ("1", ids(namespace, 0, 1, 2) - _ids(called, canceled))):
        running.server.request(
            "PATCH", f"{GROUP}/{namespace}/campaigns/{NAME}", {"spec": {"runID": run_id}}, MERGE_PATCH
        )
        for _ in range(2):
            await running.reconcile(namespace, NAME)
            await running.tend_sessions(namespace)
        campaign = await running.reconcile(namespace, NAME)
        assert _waiting_in(running, namespace, run_id) == due
    assert campaign["status"]["progress"] == "2/3"


def _ids(*sessions: Session) -> set[str]:
    return {item.spec.contact_id for item in sessions}


def _waiting_in(running: Operator, namespace: str, run_id: str) -> set[str]:
    known = running.context.store.sessions_of(namespace, NAME)
    return _ids(*(item for item in known if item.spec.run_id == run_id and not item.is_terminal))


async def test_one_query_finds_the_campaigns_whose_lists_changed(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    lists = ContactLists(engine)
    for name in (NAME, "another", "third"):
        body = campaign_body(namespace, name, contacts={"listRef": {"name": f"list-of-{name}"}})
        running.apply(body)
        await lists.import_rows(namespace, f"list-of-{name}", people(0), SUBJECTS)
        await running.reconcile(namespace, name)
        await running.reconcile(namespace, name)
    await lists.import_rows(namespace, "list-of-another", people(0, 1), SUBJECTS)
    await lists.delete(namespace, "list-of-third")
    asked = len(running.context.queue)
    running.queries.clear()
    await contacts.follow_lists(running.context)
    assert running.queries.statements == 1
    assert running.queries.rows == [2]
    assert len(running.context.queue) == asked + 2


async def test_who_left_the_list_loses_a_grant_that_was_not_dialled(
    engine: AsyncEngine, running: Operator, namespace: str
) -> None:
    context, lists = running.context, ContactLists(engine)
    await lists.import_rows(namespace, LIST, people(0), SUBJECTS)
    running.apply(campaign_body(namespace, NAME, **SPEC))
    for _ in range(2):
        await running.reconcile(namespace, NAME)
    (session,) = context.store.sessions_of(namespace, NAME)
    person = UUID(session.spec.contact_id)
    books = Books(engine, context.ledger, context.dialing, context.contacts, context.runs, [person])
    attempt = await books.held(
        namespace=namespace, campaign=NAME, accounts=(account_key(namespace, "Campaign", NAME),),
        session_name=session.meta.name,
    )  # fmt: skip
    bound = {"id": str(attempt), "number": 1, "held": "0.036"}
    running.server.patch_status(namespace, session.meta.name, {"state": "Admitted", "attempt": bound})
    await lists.import_rows(namespace, LIST, people(1), SUBJECTS)
    await running.reconcile(namespace, NAME)
    assert await books.sql("SELECT reason FROM dial_attempts WHERE id = :id", id=attempt) == "Unlisted"
    running.server.patch_status(namespace, session.meta.name, {"state": "Pending", "attempt": None})
    campaign = await running.reconcile(namespace, NAME)
    assert waiting(running, namespace) == ids(namespace, 1)
    assert campaign["status"]["contacts"]["total"] == 1
