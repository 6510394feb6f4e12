"""Limits of days and months: what their windows cover, when they close, whose midnights; on a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tests.integration.books import (
    BUDGET,
    HOLD_MICROS,
    NAMESPACE,
    POD,
    Books,
    billed,
)

from callfleet_core.ledger import HoldResult, LimitResult, account_key
from callfleet_core.windows import Window, WindowKind, time_zone, window_at


def _window(name: str, begins: timedelta, ends: timedelta) -> Window:
    now = datetime.now(UTC)
    return Window(WindowKind.DAILY, f"daily/{name}", now + begins, now + ends)


TODAY = _window("today", timedelta(hours=-1), timedelta(hours=1))


async def test_a_daily_limit_counts_beside_the_total(books: Books) -> None:
    await books.limit(40_000, window=TODAY)
    accounts = (account_key(NAMESPACE, "Budget", BUDGET), account_key(NAMESPACE, "Budget", BUDGET, TODAY))
    await books.held(0, accounts=accounts)
    answer = await books.hold(1, accounts=accounts)
    assert (answer.result, answer.account) == (HoldResult.BUDGET_HELD, accounts[1])
    assert await books.budget() == (HOLD_MICROS, 0)


@pytest.mark.parametrize(("begins", "ends"), [(-48, -24), (24, 48)])
async def test_no_money_is_held_in_a_window_that_is_not_now(books: Books, begins: int, ends: int) -> None:
    other = _window("other", timedelta(hours=begins), timedelta(hours=ends))
    await books.limit(1_000_000, window=other)
    answer = await books.hold(accounts=(account_key(NAMESPACE, "Budget", BUDGET, other),))
    assert answer.result is HoldResult.WINDOW_CLOSED


async def test_a_grant_whose_window_closed_is_refused_and_a_dialed_calls_cost_stays_there(books: Books) -> None:
    await books.limit(1_000_000, window=TODAY)
    key = account_key(NAMESPACE, "Budget", BUDGET, TODAY)
    dialed, late = await books.held(0, accounts=(key,)), await books.held(1, accounts=(key,))
    await books.dialed(dialed)
    await books.sql("UPDATE accounts SET window_end = now() WHERE key = :key", key=key)
    assert [item.uncovered for item in await books.ledger.unsettled_attempts()] == [True, True]
    assert (await books.dialing.begin_dial(late, POD, uuid4())).reason == "WindowClosed"
    await books.ended(dialed)
    await books.ledger.settle(dialed, billed(70))
    balance = await books.ledger.balance(key)
    assert balance is not None
    assert (balance.held_micros, balance.spent_micros) == (0, 36_000)


async def test_a_windows_bounds_never_move(books: Books) -> None:
    await books.limit(1_000_000, window=TODAY)
    moved = Window(TODAY.kind, TODAY.key, TODAY.start, datetime.now(UTC) + timedelta(days=9))
    await books.limit(2_000_000, window=moved, generation=2)
    balance = await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET, TODAY))
    assert balance is not None
    assert (balance.window_end, balance.limit_micros) == (TODAY.end, 2_000_000)


async def test_a_budget_that_is_made_again_by_other_midnights_has_no_second_today(books: Books) -> None:
    now = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)  # the 30th in Berlin, the 29th in New York
    here, there, later = (
        window_at(WindowKind.DAILY, time_zone(zone), at)
        for zone, at in (
            ("America/New_York", now), ("Europe/Berlin", now), ("Europe/Berlin", now + timedelta(days=1)),
        )
    )  # fmt: skip
    assert await books.limit(1_000_000, window=here) is LimitResult.APPLIED
    assert await books.limit(1_000_000, window=there, uid="budget-2") is LimitResult.TIME_ZONE_MISMATCH
    assert await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET, there)) is None
    assert await books.limit(1_000_000, window=later, uid="budget-2") is LimitResult.APPLIED
    # The same date by other midnights is the same account: its bounds stay, and nobody changes its limit either.
    same = window_at(WindowKind.DAILY, time_zone("Europe/Berlin"), datetime(2026, 11, 29, 12, tzinfo=UTC))
    assert same.key == here.key
    assert await books.limit(9_000_000, window=same, uid="budget-2") is LimitResult.TIME_ZONE_MISMATCH
    balance = await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET, here))
    assert balance is not None
    assert (balance.limit_micros, balance.window_end) == (1_000_000, here.end)


async def test_an_account_of_a_release_before_learns_its_zone(books: Books) -> None:
    window = window_at(WindowKind.DAILY, time_zone("America/New_York"), datetime.now(UTC))
    await books.limit(1_000_000, window=replace(window, zone=None))
    assert await books.limit(1_000_000, window=window) is LimitResult.APPLIED
    other = replace(window, zone="Europe/Berlin")
    assert await books.limit(1_000_000, window=other) is LimitResult.TIME_ZONE_MISMATCH


async def test_one_budget_has_one_currency_in_all_its_windows(books: Books) -> None:
    assert await books.limit(1, uid="budget-2", currency="EUR", window=TODAY) is LimitResult.CURRENCY_MISMATCH
