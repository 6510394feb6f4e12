"""Holds by sets: combined callers, batches that meet each other, scripts kept once, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tests.integration.books import BUDGET, CAMPAIGN, HOLD_MICROS, NAMESPACE, SCRIPT, Books, consenting, open_books

from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import HoldAnswer, HoldRequest, HoldResult, Ledger, account_key
from callfleet_core.ledger.batch import Batch, KnownScripts
from callfleet_core.ledger.holding import HoldDesk

PEOPLE = 40


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    return await open_books(engine, people=PEOPLE, limit_micros=PEOPLE * HOLD_MICROS)


async def test_holds_that_are_asked_for_at_once_share_a_transaction(books: Books) -> None:
    answers = await asyncio.gather(*(books.hold(index) for index in range(PEOPLE)))
    assert {answer.result for answer in answers} == {HoldResult.HELD}
    assert await books.sql("SELECT count(DISTINCT xmin::text) FROM dial_attempts") < PEOPLE / 2
    assert await books.budget() == (PEOPLE * HOLD_MICROS, 0)


async def test_each_caller_gets_its_own_answers(books: Books) -> None:
    sizes = (1, 7, 2, 5)
    people = iter(range(PEOPLE))
    asked = [[books.request(next(people)) for _ in range(size)] for size in sizes]
    answers = await asyncio.gather(*(books.ledger.hold(requests) for requests in asked))
    assert [[item.attempt_id for item in requests] for requests in asked] == [
        [answer.attempt_id for answer in together] for together in answers
    ]


async def test_one_callers_bad_item_is_that_callers_error_alone(books: Books) -> None:
    answers = await asyncio.gather(
        *(books.hold(index) for index in range(4)),
        books.hold(4, amount_micros=-1),
        *(books.hold(index) for index in range(5, 8)),
        return_exceptions=True,
    )
    assert [isinstance(answer, DBAPIError) for answer in answers] == [False] * 4 + [True] + [False] * 3
    assert await books.budget() == (7 * HOLD_MICROS, 0)


async def test_a_connection_that_is_lost_among_single_callers_costs_only_the_one_it_served(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, lost = HoldDesk._hold, False

    async def cut(
        desk: HoldDesk, connection: AsyncConnection, epoch: int, requests: list[HoldRequest]
    ) -> list[HoldAnswer]:
        nonlocal lost
        if len(requests) == 1 and not lost:
            lost = True
            await connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return await hold(desk, connection, epoch, requests)

    monkeypatch.setattr(HoldDesk, "_hold", cut)
    answers = await asyncio.gather(
        books.hold(0, amount_micros=-1), *(books.hold(index) for index in range(1, 4)), return_exceptions=True
    )
    assert [isinstance(answer, DBAPIError) for answer in answers] == [True, False, False, False]
    assert await books.budget() == (3 * HOLD_MICROS, 0)


async def test_a_caller_that_goes_away_stops_no_other(books: Books) -> None:
    tasks = [asyncio.create_task(books.hold(index)) for index in range(6)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers].count(True) == 1
    assert (await books.hold(7)).result is HoldResult.HELD


async def test_what_was_asked_under_an_old_epoch_is_refused(books: Books) -> None:
    await Ledger(books.engine).take_epoch()
    answers = await asyncio.gather(*(books.hold(index) for index in range(4)), return_exceptions=True)
    assert all(isinstance(answer, StaleEpochError) for answer in answers)
    await books.ledger.take_epoch()
    assert (await books.hold()).result is HoldResult.HELD


async def test_a_new_epoch_waits_for_the_writes_of_the_old_one(books: Books) -> None:
    async with books.engine.begin() as writing:
        await writing.exec_driver_sql(f"SELECT ledger_assert_epoch({books.ledger.epoch})")
        taking = asyncio.create_task(Ledger(books.engine).take_epoch())
        done, _ = await asyncio.wait([taking], timeout=0.3)
        assert not done
    assert await taking == books.ledger.epoch + 1


async def test_batches_that_meet_never_deadlock_and_open_each_number_once(books: Books) -> None:
    """Four clients of one epoch, each batch in another order and over accounts in another order."""
    ledgers = [Ledger(books.engine) for _ in range(4)]
    for ledger in ledgers:
        ledger._epoch = books.ledger.epoch  # as if each were the leader's own
    chance = random.Random(7)  # noqa: S311  # an order, not a secret
    accounts = [account_key(NAMESPACE, "Campaign", CAMPAIGN), account_key(NAMESPACE, "Budget", BUDGET)]

    async def client(ledger: Ledger) -> int:
        people = chance.sample(range(PEOPLE), PEOPLE)
        chance.shuffle(accounts)
        answers = await ledger.hold([books.request(index, accounts=tuple(accounts)) for index in people])
        return sum(answer.result is HoldResult.HELD for answer in answers)

    for _ in range(5):
        assert sum(await asyncio.gather(*(client(ledger) for ledger in ledgers))) == PEOPLE
        assert (
            await books.sql("SELECT count(DISTINCT number_hash) FROM dial_attempts WHERE state = 'granted'") == PEOPLE
        )
        assert await books.budget() == (PEOPLE * HOLD_MICROS, 0)
        for attempt in await books.ledger.unsettled_attempts():
            await books.ledger.revoke(attempt.id, "Test")
    assert await books.ledger.overspent_accounts() == []


async def test_the_same_number_twice_in_a_batch_is_held_once(books: Books) -> None:
    (again,) = await books.listed("other", "1", consenting(0))
    answers = await books.ledger.hold([books.request(0), books.request(0, campaign="other", contact_id=again)])
    assert sorted(answer.result for answer in answers) == [HoldResult.HELD, HoldResult.NUMBER_BUSY]
    assert await books.sql("SELECT count(*) FROM dial_attempts") == 1


async def test_a_hold_whose_answer_was_lost_is_answered_again(books: Books) -> None:
    request = books.request()
    (first,) = await books.ledger.hold([request])
    (second,) = await books.ledger.hold([request])
    assert first == second
    assert await books.budget() == (HOLD_MICROS, 0)
    await books.ledger.revoke(request.attempt_id, "Expired")
    (third,) = await books.ledger.hold([request])
    assert third.result is HoldResult.CLOSED


async def test_what_is_refused_for_money_leaves_no_attempt(books: Books) -> None:
    await books.limit(3 * HOLD_MICROS, generation=2)
    answers = await books.ledger.hold([books.request(index) for index in range(5)])
    assert [answer.result for answer in answers] == [HoldResult.HELD] * 3 + [HoldResult.BUDGET_HELD] * 2
    assert await books.sql("SELECT count(*) FROM dial_attempts") == 3
    # And the number is free for whoever has the money.
    await books.limit(4 * HOLD_MICROS, generation=3)
    assert (await books.hold(4)).result is HoldResult.HELD


async def test_a_smaller_hold_behind_a_large_one_still_finds_room(books: Books) -> None:
    await books.limit(HOLD_MICROS, generation=2)
    answers = await books.ledger.hold([books.request(0, amount_micros=2 * HOLD_MICROS), books.request(1)])
    assert [answer.result for answer in answers] == [HoldResult.BUDGET_EXHAUSTED, HoldResult.HELD]


async def test_one_person_twice_in_a_batch_is_the_first_item_s_and_the_other_one_waits(books: Books) -> None:
    """Found by the state machine: what was refused for money closed the other item, which ended its session."""
    first = books.request(0)
    answers = await books.ledger.hold([first, books.request(0), books.request(1), first])
    assert [answer.result for answer in answers] == [
        HoldResult.HELD, HoldResult.NUMBER_BUSY, HoldResult.HELD, HoldResult.HELD,
    ]  # fmt: skip
    assert [answer.attempt_id for answer in answers][0::3] == [first.attempt_id] * 2
    dear = books.request(2, amount_micros=PEOPLE * HOLD_MICROS)
    answers = await books.ledger.hold([dear, books.request(2)])
    assert [answer.result for answer in answers] == [HoldResult.BUDGET_HELD, HoldResult.NUMBER_BUSY]
    assert (await books.hold(2)).result is HoldResult.HELD


async def test_a_script_is_kept_once_and_comes_back_whole(books: Books) -> None:
    attempts = [await books.held(index) for index in range(3)]
    assert await books.sql("SELECT count(*) FROM call_scripts") == 1
    for attempt in attempts:
        assert await books.sql("SELECT a.script FROM dial_attempts a WHERE id = :id", id=attempt) == SCRIPT


async def test_a_database_that_lost_a_script_is_given_it_again(books: Books) -> None:
    await books.limit(0, generation=2)
    assert (await books.hold()).result is HoldResult.BUDGET_EXHAUSTED
    await books.limit(HOLD_MICROS, generation=3)
    # As after a restore of a backup: the operator runs on, and thinks that the script is there.
    await books.sql("ALTER TABLE call_scripts DISABLE TRIGGER call_scripts_stay")
    await books.sql("DELETE FROM call_scripts")
    assert (await books.hold()).result is HoldResult.HELD


async def test_what_the_ledger_names_cannot_be_deleted(books: Books) -> None:
    await books.held()
    for change in (
        "DELETE FROM accounts", "TRUNCATE accounts", "UPDATE accounts SET id = DEFAULT",
        "DELETE FROM carrier_accounts", "UPDATE carrier_accounts SET account_sid = 'AC0'", "DELETE FROM call_scripts",
    ):  # fmt: skip
        with pytest.raises(DBAPIError, match="keeps its rows"):
            await books.sql(change)


async def test_a_carrier_account_that_is_not_registered_holds_nothing(books: Books) -> None:
    with pytest.raises(DBAPIError, match="carrier account of the batch is not registered"):
        await books.ledger.hold([replace(books.request(0), account_sid="AC" + "f" * 32)])
    assert await books.sql("SELECT count(*) FROM dial_attempts") == 0


async def test_a_hold_never_reads_a_table_whole(books: Books) -> None:
    """A plan made while the tables were small is kept: it must be the one for big tables."""
    await books.held()
    await books.sql("ANALYZE")
    batch = Batch([books.request(index) for index in range(1, 4)])
    async with books.engine.begin() as connection:
        asked = {"epoch": books.ledger.epoch, "batch": batch.document(KnownScripts())}
        before = await _scans(connection)  # of what came before, too, as long as it is not reported
        answers = await connection.execute(text("SELECT ledger_hold(:epoch, CAST(:batch AS jsonb))"), asked)
        assert [answer["result"] for answer in answers.scalar_one()] == ["Held"] * 3
        after = await _scans(connection)
    for table in ("contacts", "campaign_contacts", "consents", "campaigns", "dial_attempts"):
        whole, by_index = (after[table][kind] - before[table][kind] for kind in (0, 1))
        assert (whole, by_index > 0) == (0, True), table


async def _scans(connection: AsyncConnection) -> dict[str, tuple[int, int]]:
    """How often each table was read whole, and by an index."""
    rows = await connection.execute(text("SELECT relname, seq_scan, idx_scan FROM pg_stat_xact_user_tables"))
    return {row.relname: (row.seq_scan, row.idx_scan or 0) for row in rows}


async def test_a_script_cannot_be_kept_under_another_ones_name(books: Books) -> None:
    await books.held()
    with pytest.raises(DBAPIError, match="call_scripts_named_by_content"):
        await books.sql("UPDATE call_scripts SET script = script || ' '")
