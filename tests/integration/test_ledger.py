"""Money: holds, limits, settlements, epochs, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.integration.books import (
    ACCOUNT_SID,
    BUDGET,
    CAMPAIGN,
    HOLD_MICROS,
    NAMESPACE,
    POD,
    RUN,
    Books,
    billed,
    consenting,
)

from callfleet_core.ledger import MAX_ATTEMPTS_A_CYCLE, HoldResult, LimitResult, account_key
from callfleet_core.reconciliation import CarrierDay, Reconciliations
from callfleet_core.runs import Run
from callfleet_core.windows import TOTAL, Window, WindowKind


async def test_a_call_holds_its_worst_case_and_settles_its_actual(books: Books) -> None:
    attempt = await books.held()
    assert await books.budget() == (HOLD_MICROS, 0)
    await books.dialed(attempt)
    await books.ended(attempt, duration_s=59)
    assert await books.ledger.settle(attempt, billed(59)) == "settled"
    assert await books.budget() == (0, 18_000)


async def test_settling_twice_posts_once(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    await books.ended(attempt)
    lines = billed(70)
    await books.ledger.settle(attempt, lines)
    await books.ledger.settle(attempt, lines)
    assert await books.budget() == (0, 36_000)


async def test_a_busy_line_costs_nothing_and_may_be_tried_again(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    await books.ended(attempt, "busy", None)
    await books.ledger.settle(attempt, [])
    assert await books.budget() == (0, 0)
    assert (await books.hold(number=2)).result is HoldResult.HELD


async def test_a_spent_out_budget_says_what_is_missing(books: Books) -> None:
    for index in range(6):
        attempt = await books.held(index)
        await books.dialed(attempt, f"CA{index:032d}")
        await books.ended(attempt)
        await books.ledger.settle(attempt, billed(70))
    answer = await books.hold(6)
    assert answer.result is HoldResult.BUDGET_EXHAUSTED
    assert answer.shortfall_micros == 7 * HOLD_MICROS - 220_000
    await books.limit(260_000, generation=2)
    assert (await books.hold(6)).result is HoldResult.HELD


async def test_money_that_is_only_held_is_told_apart(books: Books) -> None:
    for index in range(6):
        await books.held(index)
    answer = await books.hold(6)
    assert answer.result is HoldResult.BUDGET_HELD
    assert answer.shortfall_micros == 32_000


async def test_a_batch_holds_each_item_whole_or_not_at_all(books: Books) -> None:
    answers = await books.ledger.hold([books.request(index) for index in range(8)])
    assert [answer.result for answer in answers].count(HoldResult.HELD) == 6
    assert await books.budget() == (6 * HOLD_MICROS, 0)
    assert await books.sql("SELECT count(*) FROM dial_attempts") == 6


async def test_two_accounts_both_cover_or_neither_is_touched(books: Books) -> None:
    await books.ledger.set_limit(
        namespace=NAMESPACE, kind="Campaign", name=CAMPAIGN, window=TOTAL, currency="USD",
        limit_micros=10, suspended=False, uid="campaign-1", generation=2,
    )  # fmt: skip
    assert (await books.hold()).result is HoldResult.BUDGET_EXHAUSTED
    assert await books.budget() == (0, 0)


@pytest.mark.parametrize(
    ("accounts", "result"),
    [
        ((), HoldResult.BUDGET_NOT_FOUND),
        (("sales/Budget/other/total",), HoldResult.BUDGET_NOT_FOUND),
    ],
)
async def test_a_session_that_no_budget_covers_waits(
    books: Books, accounts: tuple[str, ...], result: HoldResult
) -> None:
    assert (await books.hold(accounts=accounts)).result is result


async def test_another_currency_is_never_converted(books: Books) -> None:
    assert (await books.hold(currency="EUR")).result is HoldResult.CURRENCY_MISMATCH
    assert await books.limit(1, uid="budget-2", currency="EUR") is LimitResult.CURRENCY_MISMATCH


async def test_a_suspended_budget_holds_nothing(books: Books) -> None:
    await books.limit(220_000, generation=2, suspended=True)
    assert (await books.hold()).result is HoldResult.SUSPENDED


async def test_deleting_and_reapplying_a_budget_keeps_what_was_spent(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    await books.ended(attempt)
    await books.ledger.settle(attempt, billed(70))
    await books.ledger.close_account(namespace=NAMESPACE, kind="Budget", name=BUDGET)
    assert (await books.hold(1)).result is HoldResult.BUDGET_NOT_FOUND
    await books.limit(50_000, uid="budget-2")
    assert (await books.hold(1)).result is HoldResult.BUDGET_EXHAUSTED


async def test_a_budget_that_is_made_again_reopens_its_account(books: Books) -> None:
    await books.ledger.close_account(namespace=NAMESPACE, kind="Budget", name=BUDGET)
    await books.limit(220_000, uid="budget-2")
    assert (await books.hold()).result is HoldResult.HELD


async def test_a_closed_days_account_is_not_read_to_hold(books: Books) -> None:
    now = datetime.now(UTC)
    for number in (-2, -1, 0, 1):
        start = now + timedelta(days=number)
        await books.limit(100, window=Window(WindowKind.DAILY, f"daily/{number}", start, start + timedelta(days=1)))
    every = {item.time_window for item in await books.ledger.balances()}
    assert every == {"total", "daily/-2", "daily/-1", "daily/0", "daily/1"}
    assert {item.time_window for item in await books.ledger.balances(now)} == every - {"daily/-2", "daily/-1"}


async def test_an_older_generation_never_replaces_a_newer_limit(books: Books) -> None:
    await books.limit(500_000, generation=3)
    assert await books.limit(100, generation=2) is LimitResult.STALE
    assert (await books.hold()).result is HoldResult.HELD


async def test_an_actual_above_its_hold_is_posted_in_full_and_flagged(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    await books.ended(attempt, duration_s=200)
    await books.ledger.settle(attempt, billed(200))
    balance = await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET))
    assert balance is not None
    assert (balance.spent_micros, balance.overrun) == (72_000, True)
    assert await books.ledger.overspent_accounts() == []  # no hold was made above the limit
    assert (await books.hold(1)).result is HoldResult.SUSPENDED  # the prices are wrong: somebody must look
    await books.limit(220_000, generation=2)
    await books.sql("UPDATE accounts SET overrun = false WHERE kind = 'Campaign'")
    assert (await books.hold(1)).result is HoldResult.HELD


async def test_a_final_word_between_look_and_settlement_is_not_settled_at_nothing(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "unresolved", None)
    (looked,) = await books.ledger.unsettled_attempts()
    assert await books.ended(attempt, "completed", 70)
    assert await books.ledger.settle(attempt, [], seen=looked.end_status) == "ended"
    assert await books.budget() == (HOLD_MICROS, 0)
    (looked,) = await books.ledger.unsettled_attempts()
    assert await books.ledger.settle(attempt, billed(70), seen=looked.end_status) == "settled"
    assert await books.budget() == (0, 36_000)


async def test_evidence_after_an_unresolved_settlement_still_posts(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "unresolved", None)
    await books.ledger.settle(attempt, [])
    assert await books.budget() == (0, 0)
    assert await books.ended(attempt, "completed", 70)
    assert [item.id for item in await books.ledger.unsettled_attempts()] == [attempt]
    await books.ledger.settle(attempt, billed(70))
    assert await books.budget() == (0, 36_000)
    assert await books.ledger.unsettled_attempts() == []


async def test_revoking_returns_the_money_once(books: Books) -> None:
    attempt = await books.held()
    assert await books.ledger.revoke(attempt, "Expired") == "revoked"
    assert await books.ledger.revoke(attempt, "Expired") == "revoked"
    assert await books.budget() == (0, 0)
    assert await books.sql("SELECT count(*) FROM ledger_entries WHERE kind = 'release'") == 2  # one an account


async def test_a_dialing_attempt_is_never_revoked(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    assert await books.ledger.revoke(attempt, "Expired") == "dialing"
    assert await books.budget() == (HOLD_MICROS, 0)


async def test_ledger_entries_cannot_be_changed(books: Books) -> None:
    await books.held()
    for statement in ("UPDATE ledger_entries SET held_micros = 0", "DELETE FROM ledger_entries"):
        with pytest.raises(DBAPIError, match="append-only"):
            await books.sql(statement)


async def test_eight_clients_at_once_never_overspend(books: Books) -> None:
    async def client(first: int) -> int:
        held = 0
        for index in range(first, 12, 4):
            held += (await books.hold(index)).result is HoldResult.HELD
        return held

    held = sum(await asyncio.gather(*(client(index % 4) for index in range(8))))
    assert held == 6
    assert await books.budget() == (6 * HOLD_MICROS, 0)
    assert await books.ledger.overspent_accounts() == []


async def test_balances_are_the_sum_of_their_entries(books: Books) -> None:
    for index in range(5):
        attempt = await books.held(index)
        if index % 2:
            await books.ledger.revoke(attempt, "Expired")
            continue
        await books.dialed(attempt, f"CA{index:032d}")
        await books.ended(attempt)
        await books.ledger.settle(attempt, billed(70))
    assert await books.unbalanced() == 0


async def test_the_overspend_check_sees_a_planted_overspend(books: Books) -> None:
    attempt = await books.held()
    async with books.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)"
                " SELECT :attempt, id, 'late', 0, 500000, limit_micros, now() FROM accounts WHERE kind = 'Budget'"
            ),
            {"attempt": attempt},
        )
    await books.held(1)
    assert await books.ledger.overspent_accounts() == [account_key(NAMESPACE, "Budget", BUDGET)]


async def test_a_finished_contact_is_never_held_for_again(books: Books) -> None:
    run = Run(NAMESPACE, CAMPAIGN, RUN)
    await books.runs.finish(run, books.people[0], state="Completed", disposition="answered")
    assert (await books.hold()).result is HoldResult.CLOSED
    # A new run calls afresh.
    await books.listed(CAMPAIGN, "2", consenting(0))
    assert (await books.hold(run_id="2")).result is HoldResult.HELD


async def test_lowering_the_attempts_counts_at_once(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt)
    await books.ended(attempt, "busy", None)
    await books.ledger.settle(attempt, [])
    assert (await books.hold(number=2, max_attempts=1)).result is HoldResult.CLOSED


async def test_what_never_reached_the_carrier_uses_up_no_attempt(books: Books) -> None:
    for index in range(1, 4):
        attempt = await books.held(number=index, max_attempts=1)
        await books.dialing.begin_dial(attempt, POD, uuid4())
        await books.ended(attempt, "notPlaced", None)
        await books.ledger.settle(attempt, [])
    (latest,) = (await books.ledger.latest_attempts(NAMESPACE, [f"{CAMPAIGN}-{RUN}-0"])).values()
    assert (latest.counts, latest.tries, latest.not_placed) == (False, 0, 3)


async def test_a_call_without_a_sid_has_no_price_to_be_corrected(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "failed", None)  # evidence by the attempt's id; the carrier's SID was never told
    await books.ledger.settle(attempt, [])
    bill = Reconciliations(books.engine, lambda: books.ledger.epoch)
    assert await bill.correct(attempt, CarrierDay(ACCOUNT_SID, datetime.now(UTC).date()), 80) is None
    assert await books.budget() == (0, 0)


async def test_the_last_attempt_of_each_of_twelve_hundred_sessions_is_found(books: Books) -> None:
    people = [consenting(index) for index in range(100, 1300)]
    ids = await books.listed("many", "1", *people)
    books.people = ids
    names = [f"many-1-{index}" for index in range(len(ids))]
    account = (account_key(NAMESPACE, "Campaign", CAMPAIGN),)
    requests = [
        books.request(index, campaign="many", session_name=name, accounts=account) for index, name in enumerate(names)
    ]
    for first in range(0, len(requests), 300):
        answers = await books.ledger.hold(requests[first : first + 300])
        assert {answer.result for answer in answers} == {HoldResult.HELD}
    assert set(await books.ledger.latest_attempts(NAMESPACE, names)) == set(names)
    assert len(await books.ledger.open_attempts()) == len(names)


async def test_whoever_must_know_of_all_open_attempts_is_told_of_all(books: Books) -> None:
    """A worker whose call were not seen because of a thousand older ones would be removed in the middle of it."""
    newest = await books.held(0)
    pod = await books.sql("SELECT granted_pod_uid FROM dial_attempts WHERE id = :id", id=newest)
    await books.older_attempts(MAX_ATTEMPTS_A_CYCLE)
    oldest = await books.ledger.unsettled_attempts()
    assert newest not in {attempt.id for attempt in oldest}
    assert [attempt.id for attempt in await books.ledger.unsettled_attempts(oldest[-1])] == [newest]
    assert [item.granted_pod_uid for item in await books.ledger.open_attempts()].count(pod) == 1
    assert [attempt.id for attempt in await books.ledger.unsettled_attempts_of(NAMESPACE, CAMPAIGN)] == [newest]
    assert await books.ledger.unsettled_attempts_of(NAMESPACE, "none") == []
