"""A worker's records: of its own call only, nothing of whoever was erased, and a wish not to be called at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    CAMPAIGN,
    NAMESPACE,
    OWNER,
    POD,
    RUN,
    SUBJECTS,
    Books,
    billed,
    consenting,
    login,
)
from tests.integration.test_privacy import everything

from callfleet_core.db.migrate import migrate, revisions
from callfleet_core.db.rights import close_worker_tables
from callfleet_core.ledger import HoldResult
from callfleet_core.privacy import Erasure, Privacy
from callfleet_core.records import CallOutcome, CallRecords, LeadFields, Owner, Turn, Usage

BEFORE = revisions()[revisions().index("0018") + 1]
SECRET = "a garden gnome"
OUTCOME = CallOutcome(disposition="qualified", turns=1, decided_by={"grammar": 1}, latency_ms_p50=480)
LEAD = LeadFields(
    qualification_score=Decimal("0.75"), interest_level="high", timeline=f"{SECRET} by May", fields={"wish": SECRET}
)
USAGE = [Usage(meter="tts_characters", quantity=Decimal(80), provider="piper")]
_MAY = """
SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    AND (has_table_privilege('callfleet_worker', oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
         OR has_any_column_privilege('callfleet_worker', oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
"""
_MAY_CALL = """
SELECT array_agg(proname::text ORDER BY proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    AND has_function_privilege('callfleet_worker', oid, 'EXECUTE')
"""


@pytest.fixture
async def worker(books: Books, database_url: str) -> AsyncIterator[AsyncEngine]:
    """The database as a worker sees it."""
    engine = await login(books, database_url, "callfleet_worker")
    yield engine
    await engine.dispose()


def turn(said: str = SECRET) -> Turn:
    return Turn(
        agent_type="qualifier", message_type="user", content=said, at=datetime.now(UTC), metadata={"value": said}
    )


async def over(books: Books, index: int = 0) -> UUID:
    """A call that is settled, of which nothing is stored yet."""
    attempt = await books.held(index)
    await books.dialed(attempt, f"CA{index:032d}")
    await books.ended(attempt)
    await books.ledger.settle(attempt, billed(70))
    return attempt


async def store(engine: AsyncEngine, books: Books, call: UUID, owner: Owner = OWNER) -> list[bool]:
    """Everything that a worker writes; what it is answered."""
    records = CallRecords(engine)
    return [
        await records.add_turns(call, [turn()], first_seq=0, key=await books.key(), owner=owner),
        await records.finish(call, OUTCOME, LEAD, USAGE, owner=owner),
        await records.opted_out(call, owner=owner),
    ]


async def written(books: Books) -> int:
    """How many rows there are of what workers write."""
    return int(
        await books.sql(
            "SELECT (SELECT count(*) FROM conversations) + (SELECT count(*) FROM lead_scores)"
            " + (SELECT count(*) FROM call_usage) + (SELECT count(*) FROM do_not_call)"
            " + (SELECT count(*) FROM calls WHERE disposition IS NOT NULL)"
        )
    )


async def refused(engine: AsyncEngine, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with engine.begin() as connection:
            await connection.execute(text(statement))


async def test_no_table_is_the_workers_roles_and_its_functions_are_few(books: Books, worker: AsyncEngine) -> None:
    await over(books)
    assert await books.sql(_MAY) is None
    assert await books.sql(_MAY_CALL) == [
        "attempt_view", "begin_dial", "worker_add_turns", "worker_finish", "worker_opted_out",
        "worker_record_answered", "worker_record_ended", "worker_record_placed",
    ]  # fmt: skip
    async with books.engine.connect() as connection:
        columns = await connection.execute(
            text(
                "SELECT DISTINCT ON (attrelid) attrelid::regclass::text, quote_ident(attname) FROM pg_attribute a"
                " JOIN pg_tables t ON attrelid = t.tablename::regclass AND t.schemaname = 'public'"
                " WHERE attnum > 0 AND attidentity = '' ORDER BY attrelid, attnum"
            )
        )
        tables = {str(table): str(column) for table, column in columns}
    assert {"calls", "calls_default", "conversations", "lead_scores", "call_usage", "contacts"} <= set(tables)
    for table, column in tables.items():
        await refused(worker, f"SELECT {column} FROM {table}")  # noqa: S608  # names of ours, as below
        await refused(worker, f"INSERT INTO {table} DEFAULT VALUES")
        await refused(worker, f"UPDATE {table} SET {column} = NULL")  # noqa: S608
        await refused(worker, f"DELETE FROM {table}")  # noqa: S608


async def test_a_worker_writes_its_own_calls_records(books: Books, worker: AsyncEngine) -> None:
    call = await over(books)
    for _ in range(2):
        assert await store(worker, books, call) == [True, True, True]
    assert await written(books) == 5
    assert (
        await books.sql("SELECT fields->>'wish' || ', ' || timeline FROM lead_scores") == f"{SECRET}, {SECRET} by May"
    )
    assert await books.sql("SELECT metadata->>'value' FROM conversations") == SECRET
    assert await books.sql("SELECT quantity FROM call_usage") == 80


@pytest.mark.parametrize("owner", [Owner("another namespace's pod", 1), Owner(POD, 0), Owner(POD, 2)])
async def test_a_worker_writes_nothing_of_a_call_that_is_not_its_own(
    books: Books, worker: AsyncEngine, owner: Owner
) -> None:
    call = await over(books)
    assert await store(worker, books, call, owner) == [False, False, False]
    assert await written(books) == 0


async def test_an_older_generation_writes_nothing_more(books: Books, worker: AsyncEngine) -> None:
    call = await over(books)
    await books.sql("UPDATE dial_attempts SET owner_pod_uid = 'another', owner_generation = 2 WHERE id = :id", id=call)
    assert await store(worker, books, call) == [False, False, False]
    assert await written(books) == 0
    assert await store(worker, books, call, Owner("another", 2)) == [True, True, True]


async def test_what_comes_after_an_erasure_says_nothing_of_the_person(books: Books, worker: AsyncEngine) -> None:
    call, key = await over(books), await books.key()
    assert await Privacy(books.engine, SUBJECTS).erase(books.people[0]) is Erasure.ERASED
    records = CallRecords(worker)
    assert await records.add_turns(call, [turn()], first_seq=0, key=key, owner=OWNER)
    assert await records.finish(call, OUTCOME, LEAD, USAGE, owner=OWNER)
    assert SECRET not in await everything(books)
    assert await books.sql("SELECT concat(length(content), ' ', metadata) FROM conversations") == "0 {}"
    assert await books.sql("SELECT concat(fields, COALESCE(timeline, '-')) FROM lead_scores") == "{}-"
    assert await books.sql("SELECT disposition || ' ' || turns FROM calls") == "qualified 1"
    assert await books.sql("SELECT quantity FROM call_usage") == 80


async def test_an_erasure_under_way_is_waited_for(books: Books, worker: AsyncEngine) -> None:
    call, key, records = await over(books), await books.key(), CallRecords(worker)
    async with books.engine.begin() as erasing:
        await erasing.execute(text("SELECT erase_contact(:id)"), {"id": books.people[0]})
        late = [
            asyncio.create_task(records.add_turns(call, [turn()], first_seq=0, key=key, owner=OWNER)),
            asyncio.create_task(records.finish(call, OUTCOME, LEAD, USAGE, owner=OWNER)),
        ]
        assert (await asyncio.wait(late, timeout=1))[0] == set()
    assert await asyncio.gather(*late) == [True, True]
    assert SECRET not in await everything(books)
    assert await written(books) == 4


async def test_a_wish_is_on_the_list_at_once_and_outlives_its_worker(books: Books, worker: AsyncEngine) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    assert await CallRecords(worker).opted_out(attempt, owner=OWNER)
    assert await books.sql("SELECT namespace || ' ' || source FROM do_not_call") == f"{NAMESPACE} opt-out"
    await books.ended(attempt, "failed", 12)  # with its worker, that says nothing more
    await books.ledger.settle(attempt, billed(12))
    session = f"{CAMPAIGN}-{RUN}-0"
    read = await books.ledger.latest_attempts(NAMESPACE, [session])  # what the session's result is made of
    assert (read[session].disposition, read[session].state) == ("optedOut", "settled")
    (again,) = await books.listed("autumn", "1", consenting(0))
    assert again == books.people[0]
    assert (await books.hold(0, campaign="autumn")).result is HoldResult.DO_NOT_CALL


async def test_no_outcome_takes_a_wish_away(books: Books, worker: AsyncEngine) -> None:
    attempt, records = await over(books), CallRecords(worker)
    assert await records.opted_out(attempt, owner=OWNER)
    assert await records.finish(attempt, OUTCOME, None, [], owner=OWNER)
    assert await books.sql("SELECT disposition || ' ' || turns FROM calls") == "optedOut 1"


# As workers of the release before write them.
_EARLIER = (
    "INSERT INTO conversations (call_id, seq, agent_type, message_type, content, timestamp, metadata)"
    " VALUES (:call, 0, 'qualifier', 'user', 'x', now(), '{}') ON CONFLICT (call_id, seq) DO NOTHING",
    "UPDATE calls SET disposition = 'optedOut', turns = 1, decided_by = '{}', latency_ms_p50 = 1 WHERE id = :call",
    "INSERT INTO lead_scores (contact_id, call_id, qualification_score, interest_level, budget_qualified, timeline,"
    " decision_maker, fields) SELECT contact_id, id, 1, NULL, NULL, NULL, NULL, '{}' FROM calls WHERE id = :call"
    " ON CONFLICT (call_id) DO UPDATE SET qualification_score = EXCLUDED.qualification_score,"
    " interest_level = EXCLUDED.interest_level, budget_qualified = EXCLUDED.budget_qualified,"
    " timeline = EXCLUDED.timeline, decision_maker = EXCLUDED.decision_maker, fields = EXCLUDED.fields",
    "INSERT INTO call_usage (call_id, meter, provider, quantity) VALUES (:call, 'stt_seconds', 'whisper', 1)"
    " ON CONFLICT (call_id, meter, provider) DO UPDATE SET quantity = EXCLUDED.quantity",
)


async def test_workers_of_the_release_before_keep_their_calls_records_for_a_day(
    books: Books, worker: AsyncEngine, database_url: str
) -> None:
    call = await over(books)
    migrate(database_url, BEFORE, down=True)
    migrate(database_url)
    await books.engine.dispose()
    for _ in range(2):
        async with worker.begin() as connection:
            for statement in _EARLIER:
                await connection.execute(text(statement), {"call": call})
    assert await written(books) == 5
    await refused(worker, "SELECT content FROM conversations")
    assert not await close_worker_tables(books.engine)
    await books.sql("UPDATE worker_tables SET until = until - interval '1 day'")
    assert await close_worker_tables(books.engine)
    assert not await close_worker_tables(books.engine)
    assert await books.sql(_MAY) is None
    await refused(worker, "UPDATE calls SET disposition = 'optedOut'")
