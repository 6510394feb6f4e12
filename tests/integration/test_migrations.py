"""Migrations: up, down and up again; and the models say what the migrations made."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    ACCOUNT_SID,
    NAMESPACE,
    OWNER,
    POD,
    RING,
    SUBJECTS,
    billed,
    number,
    open_books,
)

from callfleet_core.contacts import session_name
from callfleet_core.db.engine import create_engine as create_async_engine
from callfleet_core.db.engine import database_url as sqlalchemy_url
from callfleet_core.db.migrate import current_revision, head_revision, migrate, revisions, wait_for_schema
from callfleet_core.db.models import Base
from callfleet_core.donotcall import DoNotCallList
from callfleet_core.errors import SchemaError
from callfleet_core.reconciliation import CarrierDay, Reconciliations
from callfleet_core.records import CallOutcome, CallRecords, LeadFields, Turn, Usage
from callfleet_core.subjects import SAID


def test_up_down_and_up_again(empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert current_revision(empty_database_url) == head_revision()
    migrate(empty_database_url, "base", down=True)
    assert current_revision(empty_database_url) is None
    migrate(empty_database_url)
    assert current_revision(empty_database_url) == head_revision()


def test_the_models_are_what_the_migrations_make(database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        options = {"compare_type": True, "include_name": _is_no_partition}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def _is_no_partition(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name is None or re.fullmatch(r"calls_(\d{4}|default)", name) is None


def test_pods_wait_for_the_schema_and_say_what_is_missing(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="run the migrations job"):
        wait_for_schema(empty_database_url, timeout_s=0.1)
    migrate(empty_database_url)
    wait_for_schema(empty_database_url, timeout_s=5)


def test_a_downgrade_leaves_nothing_behind(empty_database_url: str) -> None:
    migrate(empty_database_url)
    migrate(empty_database_url, "base", down=True)
    engine = create_engine(sqlalchemy_url(empty_database_url))
    with engine.connect() as connection:
        functions = connection.execute(
            text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        ).scalar_one()
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
    engine.dispose()
    assert (functions, tables) == (0, 1)  # Alembic's own table stays


# What a release before would have had in it, and must have after any way there and back.
KEPT = (
    "contacts", "consents", "campaigns", "campaign_contacts", "accounts", "dial_attempts", "holds", "ledger_entries",
    "cost_lines", "calls", "conversations", "lead_scores", "call_usage", "do_not_call",
)  # fmt: skip


async def test_every_revision_goes_down_and_up_again_with_its_data(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLFLEET_ENCRYPTION_KEYS", RING.text())
    engine = create_async_engine(database_url)
    books = await open_books(engine, people=3)
    for person in range(2):
        attempt = await books.held(person)
        await books.dialing.begin_dial(attempt, POD, uuid4())
        records = CallRecords(engine)
        turn = Turn(agent_type="qualifier", message_type="user", content="Yes, please.", at=datetime.now(UTC))
        await records.add_turns(attempt, [turn], first_seq=0, key=await books.key(person), owner=OWNER)
        lead = LeadFields(qualification_score=Decimal("0.75"))
        usage = [Usage(meter="tts_characters", quantity=Decimal(80), provider="piper")]
        await records.finish(attempt, CallOutcome(disposition="qualified", turns=1), lead, usage, owner=OWNER)
        await books.ended(attempt, "completed", duration_s=70)
        await books.ledger.settle(attempt, billed(70))
    await DoNotCallList(engine, SUBJECTS).put("", number(7), actor="ada", reason="a letter")
    before = await _content(engine)
    assert all(before.values()), before
    await engine.dispose()
    for target in revisions()[1:]:
        migrate(database_url, target, down=True)
        assert current_revision(database_url) == target
    for target in reversed(revisions()):
        migrate(database_url, target)
    assert await _content(engine) == before
    await engine.dispose()


async def test_who_is_on_the_do_not_call_list_is_not_called_by_the_release_before_it(database_url: str) -> None:
    engine = create_async_engine(database_url)
    books = await open_books(engine, people=2)
    list_ = DoNotCallList(engine, SUBJECTS)
    for index in range(2):
        attempt = await books.held(index)
        await books.dialed(attempt, f"CA{index:032d}")
        await books.ended(attempt)
        await books.sql("UPDATE calls SET disposition = 'optedOut' WHERE id = :id", id=attempt)
    await list_.take_off(NAMESPACE, number(1), actor="ada", reason="they asked for it")
    migrate(database_url, "0014", down=True)
    assert await books.contacts.refusals([(each, ACCOUNT_SID) for each in books.people]) == ["DoNotCall", None]
    migrate(database_url)
    assert await books.contacts.refusals([(each, ACCOUNT_SID) for each in books.people]) == ["DoNotCall", None]
    await engine.dispose()


async def test_corrections_stay_in_the_balances_where_a_release_knows_none(database_url: str) -> None:
    engine = create_async_engine(database_url)
    books = await open_books(engine)
    bill = Reconciliations(engine, lambda: books.ledger.epoch)
    day = CarrierDay(ACCOUNT_SID, datetime.now(UTC).date())
    plain, late = [await books.held(person) for person in range(2)]
    await books.dialed(plain)
    await books.ended(plain)
    await books.dialing.begin_dial(late, POD, uuid4())
    await books.ended(late, "unresolved", None)
    await books.ledger.settle(late, [])
    await books.dialing.record_placed(late, "CA" + "2" * 32)
    await books.ended(late)
    for attempt, prices in ((plain, (42_000, 14_000)), (late, (14_000,))):
        await books.ledger.settle(attempt, billed(70))
        for price in prices:
            assert await bill.correct(attempt, day, price) is not None
    before = await books.budget()
    assert before == (0, 2 * (36_000 - 14_000))
    await engine.dispose()
    known = revisions()
    migrate(database_url, known[known.index("0007") + 1], down=True)
    kinds = await books.sql(
        "SELECT jsonb_object_agg(kind, n) FROM (SELECT kind, count(*) n FROM ledger_entries GROUP BY 1) k"
    )
    assert kinds == {"hold": 4, "settle": 4, "late": 4}  # of two accounts each
    assert (await books.budget(), await books.unbalanced()) == (before, 0)
    await engine.dispose()
    migrate(database_url)
    assert await bill.correct(plain, day, 14_000) is None
    assert (await books.budget(), await books.unbalanced()) == (before, 0)
    await engine.dispose()


async def _content(engine: AsyncEngine) -> dict[str, list[str]]:
    """The rows of each table as text, in one order; what is personal in the clear, since its keys may change."""
    async with engine.connect() as connection:
        rows = {
            table: [dict(row) for row in (await connection.execute(text(_content_of(table)))).mappings()]
            for table in KEPT
        }
    people = {row["id"]: SUBJECTS.open(row) for row in rows["contacts"]}
    for row in rows["dial_attempts"]:
        del row["script_digest"]  # compared by what it says: on the way its keys may change places
    for row in rows["contacts"]:
        person = people[row["id"]]
        # Zones are told anew when whatever lists the person is read again.
        row |= {"phone": person.phone, "name": person.name, "wrapped_key": None, "time_zones": None}
    called = {row["id"]: people[row["contact_id"]].key for row in rows["calls"]}
    for row in rows["conversations"]:
        row["content"] = called[row["call_id"]].decrypt(SAID, bytes(row["content"]))
    return {
        table: sorted(json.dumps(row, default=str, sort_keys=True) for row in found) for table, found in rows.items()
    }


def _content_of(table: str) -> str:
    return f"SELECT t.*{', t.script' if table == 'dial_attempts' else ''} FROM {table} t"  # noqa: S608  # ours


def test_a_downgrade_gives_runs_their_sessions_names_back(empty_database_url: str) -> None:
    migrate(empty_database_url)
    contact = uuid4()
    engine = create_engine(sqlalchemy_url(empty_database_url))
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO contacts (id, namespace, number_hash, erased_at) VALUES (:id, 'sales', 'h', now())"),
            {"id": contact},
        )
        connection.execute(
            text(
                "INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position)"
                " VALUES ('sales', 'spring', '1', :id, 0)"
            ),
            {"id": contact},
        )
    migrate(empty_database_url, "0001", down=True)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT session_name FROM campaign_contacts")).scalars().all()
    assert names == [session_name("spring", "1", contact)]
    migrate(empty_database_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM campaign_contacts")).scalar_one() == 1
    engine.dispose()
