"""Contact lists in a real PostgreSQL: imported whole or not at all, followed by the runs that take them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    CAMPAIGN,
    CONSENT,
    KEY,
    NAMESPACE,
    POD,
    RING,
    RUN,
    SUBJECTS,
    Books,
    billed,
    number,
    open_books,
)

from callfleet_core.contactlist import ContactListError, Row, read_contacts
from callfleet_core.contacts import contact_id
from callfleet_core.errors import HashKeyError, StaleEpochError
from callfleet_core.ledger import HoldResult
from callfleet_core.lists import ContactLists, Imported, ImportRefusedError
from callfleet_core.runs import CampaignRuns, ListUse, Run, RunCounts
from callfleet_core.subjects import Subjects

LIST = "spring-2026"
MINE = Run(NAMESPACE, CAMPAIGN, RUN)
HEADER = "phone,name,consent_kind,consent_source,consent_time"
TIME = CONSENT.given_at.isoformat()


def agrees(index: int) -> str:
    return f"{number(index)},Person {index},express-written,web form,{TIME}"


def silent(index: int) -> str:
    return f"{number(index)},,,,"


def rows(*lines: str) -> Iterator[Row]:
    return read_contacts(f"{line}\n" for line in (HEADER, *lines))


def person(index: int) -> UUID:
    return contact_id(NAMESPACE, number(index), KEY)


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    books = await open_books(engine, people=1, limit_micros=1_000_000_000)
    books.people = [person(index) for index in range(100)]
    return books


@pytest.fixture
def lists(engine: AsyncEngine) -> ContactLists:
    return ContactLists(engine)


async def put(lists: ContactLists, *lines: str, name: str = LIST, dry_run: bool = False) -> Imported:
    return await lists.import_rows(NAMESPACE, name, rows(*lines), SUBJECTS, dry_run=dry_run)


async def in_run(books: Books) -> list[UUID]:
    return [contact.contact_id for contact in await books.runs.due(MINE, 1000)]


async def test_a_run_takes_its_list_in_order_and_everybody_who_agreed_can_be_called(
    books: Books, lists: ContactLists
) -> None:
    imported = await put(lists, agrees(3), agrees(1), silent(2))
    assert (imported.contacts, imported.joined, imported.left, imported.without_consent) == (3, 3, 0, 1)
    await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == [person(3), person(1), person(2)]
    assert (await books.hold(3)).result is HoldResult.HELD
    assert (await books.hold(2)).result is HoldResult.NO_CONSENT


async def test_a_list_that_is_not_there_says_how_to_import_it_and_calls_nobody(books: Books) -> None:
    assert await in_run(books) == [person(0)]  # of what the campaign stated before
    with pytest.raises(ContactListError, match="callfleet contacts import --namespace sales --list spring-2026"):
        await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == []
    assert (await books.hold(0)).result is not HoldResult.HELD


async def test_a_list_with_wrong_rows_leaves_everything_as_it_was(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1))
    people = await books.sql("SELECT count(*) FROM contacts")
    with pytest.raises(ImportRefusedError) as refused:
        await put(lists, agrees(5), "5550100,Jane Roe,,,", agrees(6), agrees(5), f"{number(7)},,written,,")
    problems = [(problem.row, problem.text.split(":")[0]) for problem in refused.value.problems]
    assert problems == [
        (3, "a phone number is not in international form"),
        (5, "the same number as in row 2"),
        (6, "a consent needs all of consent_kind, consent_source and consent_time"),
    ]
    told = " ".join([str(refused.value), *(problem.text for problem in refused.value.problems)])
    assert all(secret not in told for secret in ("Jane", number(5), number(6), number(7)))
    await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == [person(1)]
    assert await books.sql("SELECT count(*) FROM contacts") == people


async def test_more_problems_than_can_be_told_are_counted(lists: ContactLists, books: Books) -> None:
    with pytest.raises(ImportRefusedError, match="2500 rows") as refused:
        await put(lists, *["1,,,,"] * 2_500)
    assert len(refused.value.problems) == 1_000


async def test_an_empty_list_is_refused(lists: ContactLists, books: Books) -> None:
    with pytest.raises(ContactListError, match="the list is empty"):
        await put(lists)


async def test_a_dry_run_says_what_would_change_and_changes_nothing(books: Books, lists: ContactLists) -> None:
    first = await put(lists, agrees(1), agrees(2))
    imported = await put(lists, agrees(2), agrees(3), agrees(4), dry_run=True)
    assert (imported.version, imported.contacts, imported.joined, imported.left) == (None, 3, 2, 1)
    assert [item.version for item in await lists.lists()] == [first.version]
    assert await books.sql("SELECT count(*) FROM contacts WHERE id = :id", id=person(3)) == 0


async def test_a_newer_version_is_noticed_and_taken(books: Books, lists: ContactLists) -> None:
    uses = [ListUse(MINE, LIST), ListUse(Run(NAMESPACE, "other", "1"), "missing")]
    await put(lists, agrees(1), agrees(2), agrees(3))
    assert await books.runs.outdated(uses) == {MINE}
    await books.runs.take_list(MINE, LIST)
    assert await books.runs.outdated(uses) == set()
    await put(lists, agrees(4), agrees(2))
    assert await books.runs.outdated(uses) == {MINE}
    await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == [person(4), person(2)]
    assert await books.runs.counts(MINE) == RunCounts(total=2, done=0)


async def test_a_consent_that_is_withdrawn_counts_from_the_import_on(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1), agrees(2))
    await books.runs.take_list(MINE, LIST)
    granted, gone = await books.held(1), await books.held(2)
    await put(lists, silent(1))  # one withdraws, the other has left
    for attempt in (granted, gone):
        assert (await books.dialing.begin_dial(attempt, POD, uuid4())).reason == "NoConsent"
    await put(lists, agrees(1))
    assert (await books.hold(1)).result is HoldResult.HELD


async def test_what_the_campaign_stated_before_it_named_a_list_is_stated_no_longer(
    books: Books, lists: ContactLists
) -> None:
    await put(lists, silent(0))  # open_books made the campaign state that 0 agreed
    await books.runs.take_list(MINE, LIST)
    assert (await books.hold(0)).result is HoldResult.NO_CONSENT


async def test_who_leaves_after_a_try_is_done_and_not_tried_again(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1), agrees(2), agrees(3))
    await books.runs.take_list(MINE, LIST)
    busy = await books.held(1)
    await books.dialed(busy)
    await books.ended(busy, "busy", None)
    await books.ledger.settle(busy, [])
    live = await books.held(2)
    await books.dialed(live, "CA" + "2" * 32)
    await put(lists, agrees(3))
    await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == [person(3)]
    assert await books.runs.unlisted(MINE, [person(1), person(2), person(3), person(9)]) == {
        person(1), person(2), person(9),
    }  # fmt: skip
    assert await books.runs.counts(MINE) == RunCounts(total=3, done=1)
    await books.runs.finish(MINE, person(2), state="Completed", disposition="answered")
    assert await books.runs.counts(MINE) == RunCounts(total=3, done=2)
    await put(lists, agrees(1), agrees(2), agrees(3))  # and nobody who was called is called again
    await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == [person(3)]
    assert (await books.hold(1, number=2)).result is HoldResult.CLOSED


async def test_who_leaves_with_a_grant_may_come_back_and_is_called_once(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1), agrees(2))
    await books.runs.take_list(MINE, LIST)
    await put(lists, agrees(2), name="another")  # states their consent, too
    granted, late = await books.held(1), await books.held(2)
    await put(lists, agrees(3))
    await books.runs.take_list(MINE, LIST)
    assert await books.runs.counts(MINE) == RunCounts(total=1, done=0)
    await books.ledger.revoke(granted, "Unlisted")
    await books.dialed(late)  # before its grant could be revoked
    await books.ended(late)
    await books.ledger.settle(late, billed(70))
    await put(lists, agrees(1), agrees(2))
    await books.runs.take_list(MINE, LIST)
    assert (await books.hold(1)).result is HoldResult.HELD
    assert (await books.hold(2, number=2, max_attempts=3)).result is HoldResult.CLOSED


async def test_a_deleted_list_takes_its_consents_with_it_and_calls_nobody(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1), agrees(2))
    await books.runs.take_list(MINE, LIST)
    (info,) = await lists.lists(NAMESPACE)
    assert (info.name, info.contacts, info.campaigns) == (LIST, 2, (CAMPAIGN,))
    attempt = await books.held(1)
    assert await lists.delete(NAMESPACE, LIST) == 2
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).reason == "NoConsent"
    assert await books.runs.outdated([ListUse(MINE, LIST)]) == {MINE}
    with pytest.raises(ContactListError, match="is not there"):
        await books.runs.take_list(MINE, LIST)
    assert await in_run(books) == []
    assert await books.runs.outdated([ListUse(MINE, LIST)]) == set()
    with pytest.raises(ContactListError, match="no list spring-2026"):
        await lists.delete(NAMESPACE, LIST)


async def test_a_list_is_of_one_namespace(books: Books, lists: ContactLists) -> None:
    await lists.import_rows("support", LIST, rows(agrees(1)), SUBJECTS)
    with pytest.raises(ContactListError, match="is not there"):
        await books.runs.take_list(MINE, LIST)


async def test_another_installations_key_is_refused(books: Books, lists: ContactLists) -> None:
    other = b"another key, of thirty-two bytes!!"
    with pytest.raises(HashKeyError, match="not the key"):  # before any key is known: the contacts tell
        await lists.import_rows(NAMESPACE, LIST, rows(agrees(1)), Subjects(RING, other))
    await put(lists, agrees(1))
    with pytest.raises(HashKeyError, match="not the key"):
        await lists.import_rows(NAMESPACE, LIST, rows(agrees(1)), Subjects(RING, other))


async def test_a_deposed_operator_takes_no_list(books: Books, lists: ContactLists) -> None:
    await put(lists, agrees(1))
    deposed = CampaignRuns(books.engine, SUBJECTS, lambda: books.ledger.epoch - 1)
    with pytest.raises(StaleEpochError):
        await deposed.take_list(MINE, LIST)
    assert await in_run(books) == [person(0)]


async def test_nobody_leaves_by_a_version_that_is_replaced_meanwhile(books: Books, lists: ContactLists) -> None:
    everybody = [agrees(index) for index in range(40)]
    await put(lists, *everybody)
    await books.runs.take_list(MINE, LIST)

    async def import_again() -> None:
        for _ in range(15):
            await put(lists, *everybody)

    async def follow(done: asyncio.Task[None]) -> int:
        smallest = 40
        while not done.done():
            await books.runs.take_list(MINE, LIST)
            smallest = min(smallest, (await books.runs.counts(MINE)).total)
        return smallest

    importing = asyncio.create_task(import_again())
    assert await follow(importing) == 40
    await importing


async def test_two_imports_at_once_leave_one_whole_list(books: Books, lists: ContactLists) -> None:
    await asyncio.gather(
        put(lists, *(agrees(index) for index in range(60))), put(lists, *(agrees(index) for index in range(30, 80)))
    )
    async with books.engine.connect() as connection:
        query = "SELECT l.contacts, count(*) FROM contact_lists l JOIN contact_list_entries USING (version) GROUP BY 1"
        assert (await connection.execute(text(query))).all() in ([(60, 60)], [(50, 50)])
