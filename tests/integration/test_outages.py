"""What connections promise while PostgreSQL is not well (docs/database.md); `make chaos-faults` shows the whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import ACCOUNT_SID, HOLD_MICROS, POD, Books, login_url

from callfleet_core.db import connection as connections
from callfleet_core.db import engine as engines
from callfleet_core.db.engine import create_engine
from callfleet_core.db.outages import TRIES, is_the_servers, sqlstate, until_done
from callfleet_core.db.patience import statements_within
from callfleet_core.dialing import Verdict
from callfleet_core.ledger import HoldResult, Ledger
from callfleet_operator.reconcile import admission

_FAIL = "DO $$ BEGIN RAISE EXCEPTION 'as it happens' USING ERRCODE = '{}'; END $$"


async def test_sessions_read_what_is_committed_whatever_the_role_says(books: Books, database_url: str) -> None:
    url = await login_url(books, database_url, "callfleet_worker")
    name = url.split("://", 1)[1].split(":", 1)[0]
    await books.sql(f"ALTER ROLE {name} SET default_transaction_isolation = 'serializable'")
    engine = create_engine(url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SHOW transaction_isolation"))).scalar_one() == "read committed"
        assert (await connection.execute(text("SHOW idle_in_transaction_session_timeout"))).scalar_one() == "15s"
    await engine.dispose()


@pytest.mark.parametrize(("state", "tries"), [("40001", TRIES), ("40P01", TRIES), ("55P03", 1), ("23505", 1)])
async def test_only_what_was_undone_for_anothers_sake_is_tried_again(
    engine: AsyncEngine, state: str, tries: int
) -> None:
    tried = 0

    async def transaction() -> None:
        nonlocal tried
        tried += 1
        async with engine.begin() as connection:
            await connection.execute(text(_FAIL.format(state)))

    with pytest.raises(DBAPIError) as caught:
        await until_done(transaction)
    assert (sqlstate(caught.value), tried) == (state, tries)
    assert is_the_servers(caught.value) is not state.startswith("23")


@pytest.mark.parametrize("state", ["40P01", "23514"])
async def test_a_connection_that_is_lost_after_an_answer_is_not_used_again(state: str) -> None:
    """Whoever keeps one would be told to roll back, which says nothing of what was asked."""

    class SaidError(Exception):
        sqlstate = state

    lost, tried = DBAPIError("SELECT 1", None, SaidError(), connection_invalidated=True), 0

    async def transaction() -> None:
        nonlocal tried
        tried += 1
        raise lost

    with pytest.raises(DBAPIError):
        await until_done(transaction)
    assert tried == 1
    assert is_the_servers(lost)


async def test_a_server_that_does_not_answer_is_left(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 0.5)
    began = time.monotonic()
    with pytest.raises(OperationalError, match="did not answer") as caught:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(10)"))
    assert time.monotonic() - began < 5
    assert caught.value.connection_invalidated
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_what_takes_longer_is_waited_for_and_nothing_else_is(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 0.5)
    async with engine.connect() as connection:
        async with connection.begin(), statements_within(connection, 60):
            assert await connection.scalar(text("SELECT 'waited' FROM pg_sleep(1.5)")) == "waited"
        with pytest.raises(OperationalError, match="did not answer"):
            await connection.execute(text("SELECT pg_sleep(5)"))


async def test_a_server_that_takes_no_writes_any_more_is_left(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))
        await connection.commit()
        first = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    with pytest.raises(DBAPIError, match="read-only") as caught:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE installation SET stopped = stopped"))
    assert caught.value.connection_invalidated
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE installation SET stopped = stopped"))
        assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() != first


async def test_only_a_replica_may_take_no_writes(books: Books, database_url: str) -> None:
    name = database_url.rsplit("/", 1)[1]
    await books.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    primary, replica = create_engine(database_url), create_engine(database_url, replica=True)
    with pytest.raises(OperationalError, match="read-only"):
        await primary.connect()
    async with replica.connect() as connection:
        assert (await connection.execute(text("SHOW transaction_read_only"))).scalar_one() == "on"
    for engine in (primary, replica):
        await engine.dispose()


@pytest.fixture
async def impatient(books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    """The leader's ledger, for whom half a second is a long time to wait for a lock."""
    monkeypatch.setattr(engines, "_OPTIONS", engines._OPTIONS.replace("lock_timeout=10000", "lock_timeout=500"))
    engine = create_engine(database_url)
    ledger = Ledger(engine)
    await ledger.take_epoch()
    yield ledger
    await engine.dispose()


async def test_a_long_lock_is_waited_for_once_by_all_who_ask_together(books: Books, impatient: Ledger) -> None:
    async with books.engine.begin() as somebody:
        await somebody.execute(text("SELECT FROM accounts FOR UPDATE"))
        began = time.monotonic()
        asked = (impatient.hold([books.request(person)]) for person in range(8))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        with pytest.raises(DBAPIError):
            await admission.hold(impatient, [books.request(person) for person in range(8)])
        assert time.monotonic() - began < 3  # one, the seven that came meanwhile, and the operator's batch: not 17
    assert [sqlstate(answer) for answer in answers if isinstance(answer, DBAPIError)] == ["55P03"] * 8
    assert [answer.result for answer in await admission.hold(impatient, [books.request()])] == [HoldResult.HELD]


async def test_an_operators_bad_item_stops_no_other(books: Books) -> None:
    requests = [books.request(0), books.request(1, amount_micros=-1), books.request(2)]
    answers = await admission.hold(books.ledger, requests)
    assert [answer.result for answer in answers] == [HoldResult.HELD, HoldResult.WINDOW_CLOSED, HoldResult.HELD]
    assert await books.budget() == (2 * HOLD_MICROS, 0)


async def test_a_grant_of_a_clock_that_has_gone_back_is_over(books: Books) -> None:
    attempt = await books.held()
    await books.sql(
        "UPDATE dial_attempts SET granted_at = granted_at + :by, expires_at = expires_at + :by", by=timedelta(hours=6)
    )
    assert [known.over for known in await books.ledger.unsettled_attempts()] == [True]
    decision = await books.dialing.begin_dial(attempt, POD, uuid4())
    assert (decision.verdict, decision.reason) == (Verdict.REFUSED, "Expired")
    assert await books.budget() == (0, 0)


async def test_a_grant_is_good_while_the_clock_is_put_right_by_seconds(books: Books) -> None:
    attempt = await books.held()
    await books.sql("UPDATE dial_attempts SET granted_at = granted_at + :by", by=timedelta(seconds=20))
    assert [known.over for known in await books.ledger.unsettled_attempts()] == [False]
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).verdict is Verdict.GO
    assert await books.budget() == (HOLD_MICROS, 0)


async def test_the_pace_of_a_clock_that_has_gone_back_keeps_nobody_waiting(books: Books) -> None:
    await books.sql(
        "UPDATE carrier_accounts SET calls_per_second = 0.1, next_dial_at = now() + :by WHERE account_sid = :sid",
        by=timedelta(hours=6), sid=ACCOUNT_SID,
    )  # fmt: skip
    first, second = await books.held(0), await books.held(1)
    assert (await books.dialing.begin_dial(first, POD, uuid4())).verdict is Verdict.GO
    assert (await books.dialing.begin_dial(second, POD, uuid4())).verdict is Verdict.WAIT
