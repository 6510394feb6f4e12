"""Pages of past calls: complete, in order, stable while new calls come; and what is read when the replica is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tests.integration.books import CAMPAIGN, NAMESPACE, OWNER, POD, RING, SUBJECTS, Books, billed, open_books

from callfleet_core.db.engine import create_engine
from callfleet_core.db.replica import AVOID_S, Reader
from callfleet_core.history import CallHistory, Cursor, CursorError
from callfleet_core.privacy import Privacy
from callfleet_core.records import CallOutcome, CallRecords, LeadFields, Turn

PEOPLE = 7


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    return await open_books(engine, people=PEOPLE, limit_micros=10_000_000)


async def called(books: Books, index: int) -> UUID:
    attempt = await books.held(index)
    await books.dialing.begin_dial(attempt, POD, uuid4())
    turns = [
        Turn(agent_type="qualifier", message_type=who, content=what, at=datetime.now(UTC))
        for who, what in (("assistant", "Hello?"), ("user", f"I am number {index}."))
    ]
    records = CallRecords(books.engine)
    await records.add_turns(attempt, turns, first_seq=0, key=await books.key(index), owner=OWNER)
    lead = LeadFields.model_validate({"qualification_score": "0.50", "fields": {"who": str(index)}})
    await records.finish(attempt, CallOutcome(disposition="qualified", turns=1), lead, [], owner=OWNER)
    await books.ended(attempt)
    await books.ledger.settle(attempt, billed(70))
    return attempt


def history(books: Books) -> CallHistory:
    return CallHistory(Reader(books.engine))


async def test_pages_have_every_call_once_newest_first_while_new_ones_come(books: Books) -> None:
    calls = [await called(books, index) for index in range(5)]
    past, seen, after = history(books), list[UUID](), None
    for _ in range(10):
        page = await past.page(NAMESPACE, after=after, limit=2)
        seen += [item.id for item in page.calls]
        if page.after is None:
            break
        after = Cursor.parse(page.after.text())
        if len(seen) == 2:
            await called(books, 5)  # begun after the list was begun: not on it
    assert seen == list(reversed(calls))


async def test_a_call_is_read_with_what_was_said_and_learned(books: Books) -> None:
    call, past = await called(books, 3), history(books)
    record = await past.call(call)
    assert record is not None
    assert (record.contact_id, record.status, record.disposition) == (books.people[3], "completed", "qualified")
    assert (str(record.cost), record.duration_s) == ("0.0360", 70)
    said = await past.conversation(call, SUBJECTS)
    assert [(item.by_agent, item.content) for item in said] == [(True, "Hello?"), (False, "I am number 3.")]
    assert [lead.fields for lead in await past.leads_of(books.people[3])] == [{"who": "3"}]
    assert [item.id for item in (await past.of_contact(books.people[3])).calls] == [call]
    await Privacy(books.engine, SUBJECTS).erase(books.people[3])
    assert await past.conversation(call, SUBJECTS) == []
    assert await past.call(uuid4()) is None


async def test_namespaces_campaigns_and_times_are_kept_apart(books: Books) -> None:
    call, past, now = await called(books, 0), history(books), datetime.now(UTC)
    assert [item.id for item in (await past.page(NAMESPACE, campaign=CAMPAIGN)).calls] == [call]
    assert (await past.page(NAMESPACE, campaign="another")).calls == []
    assert (await past.page("another")).calls == []
    assert (await past.page(NAMESPACE, since=now + timedelta(minutes=1))).calls == []
    assert (await past.page(NAMESPACE, until=now - timedelta(minutes=1))).calls == []


@pytest.mark.parametrize("text_", ["", "2026-01-01", "x/y", f"2026-01-01T00:00:00/{UUID(int=1)}x"])
def test_a_made_up_place_is_refused(text_: str) -> None:
    with pytest.raises(CursorError, match="take the one that the page before gave"):
        Cursor.parse(text_)


async def _count(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT count(*) FROM contacts"))).scalar_one())


async def test_a_replica_that_is_away_is_avoided_for_a_while(books: Books) -> None:
    nowhere, now = create_engine("postgresql://nobody:nothing@127.0.0.1:9/none"), [0.0]
    reader = Reader(books.engine, nowhere, lambda: now[0])
    assert await reader.read(_count) == PEOPLE
    asked = _asked(nowhere)
    assert await reader.read(_count) == PEOPLE
    assert asked() == 0  # not even tried
    now[0] = AVOID_S
    assert await reader.read(_count) == PEOPLE
    assert asked() == 1
    await nowhere.dispose()


def _asked(engine: AsyncEngine) -> Callable[[], int]:
    """How often a connection was tried from now on."""
    tries: list[object] = []

    def noted(*arguments: object) -> None:
        tries.append(arguments)

    event.listen(engine.sync_engine, "do_connect", noted)
    return lambda: len(tries)


async def test_a_wrong_query_is_not_the_replicas_fault_and_nothing_is_ever_written(books: Books) -> None:
    replica = create_engine(books.engine.url.render_as_string(hide_password=False))
    reader = Reader(books.engine, replica)

    def executes(statement: str) -> Callable[[AsyncConnection], Awaitable[object]]:
        return lambda connection: connection.execute(text(statement))

    with pytest.raises(DBAPIError, match="does not exist"):
        await reader.read(executes("SELECT nothing FROM contacts"))
    with pytest.raises(DBAPIError, match="read-only transaction"):
        await reader.read(executes("DELETE FROM contacts"))
    await replica.dispose()


async def test_calls_are_listed_and_shown_on_the_command_line(books: Books, database_url: str) -> None:
    call = await called(books, 0)
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DATABASE_URL": database_url}

    def callfleet(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "callfleet", "calls", *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    listed = callfleet("list", "-n", NAMESPACE, "--json")
    assert [item["id"] for item in json.loads(listed.stdout)["calls"]] == [str(call)], listed.stderr
    shown = callfleet("show", str(call))
    assert "qualified" in shown.stdout
    refused = callfleet("show", str(call), "--transcript")
    assert (refused.returncode, "CALLFLEET_HASH_KEY is missing" in refused.stderr) == (1, True)
    environment |= {"CALLFLEET_HASH_KEY": SUBJECTS.hash_key.decode(), "CALLFLEET_ENCRYPTION_KEYS": RING.text()}
    assert "person: I am number 0." in callfleet("show", str(call), "--transcript").stdout
    assert (callfleet("show", str(uuid4())).returncode, callfleet("list", "-n", "none").stdout) == (1, "no calls\n")
