"""Settlements in batches, and meters above their caps, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import BUDGET, HOLD_MICROS, NAMESPACE, Books, billed, number, open_books

from callfleet_core.ledger import HoldResult, Settlement, account_key
from callfleet_core.pricing import CallBounds, CostCalculator, CostLine, load_prices


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    return await open_books(engine, limit_micros=1_000_000)


def caps_of(limit_s: int) -> tuple[CostLine, ...]:
    bounds = CallBounds(number(0), limit_s)
    return tuple(CostCalculator(load_prices()).worst_case(bounds, datetime.now(UTC)))


async def test_a_meter_above_its_cap_is_flagged_although_the_money_was_enough(books: Books) -> None:
    attempt = await books.held(caps=caps_of(60))  # for 36,000 micros, which would do for two minutes
    await books.dialed(attempt)
    await books.ended(attempt, duration_s=70)
    await books.ledger.settle(attempt, billed(70))
    balance = await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET))
    assert balance is not None
    assert (balance.spent_micros, balance.overrun) == (36_000, True)
    assert balance.overrun_meters == ["carrier_media_stream_minutes", "carrier_voice_minutes"]
    assert await books.sql(
        "SELECT jsonb_object_agg(meter, ARRAY[quantity, cap_quantity, cap_micros]) FROM cost_lines"
    ) == {"carrier_voice_minutes": [2, 1, 14_000], "carrier_media_stream_minutes": [2, 1, 4_000]}
    assert (await books.hold(1)).result is HoldResult.SUSPENDED
    await books.limit(220_000, generation=2)
    balance = await books.ledger.balance(account_key(NAMESPACE, "Budget", BUDGET))
    assert balance is not None
    assert (balance.overrun, balance.overrun_meters) == (False, [])


async def test_a_meter_that_the_hold_does_not_name_was_not_to_run(books: Books) -> None:
    attempt = await books.held(caps=caps_of(120))
    await books.dialed(attempt)
    await books.ended(attempt)
    lines = [*billed(70), CostLine("hosted_stt_minutes", Decimal(1), 0)]
    await books.ledger.settle(attempt, lines)
    assert await books.sql("SELECT overrun_meters FROM accounts WHERE kind = 'Budget'") == ["hosted_stt_minutes"]


async def test_what_stays_within_its_caps_is_no_overrun(books: Books) -> None:
    attempt = await books.held(caps=caps_of(120))
    await books.dialed(attempt)
    await books.ended(attempt, duration_s=120)
    await books.ledger.settle(attempt, billed(120))
    assert await books.sql("SELECT bool_or(overrun) FROM accounts") is False


async def ended_calls(books: Books, count: int) -> list[UUID]:
    attempts = [await books.held(index) for index in range(count)]
    for index, attempt in enumerate(attempts):
        await books.dialed(attempt, f"CA{index:032d}")
        await books.ended(attempt)
    return attempts


async def test_a_batch_settles_each_once_and_tells_what_it_met(books: Books) -> None:
    first, second, third = await ended_calls(books, 3)
    live = await books.held(3)
    batch = [Settlement(each, billed(70), "completed") for each in (third, first, live, first, uuid4())]
    batch.append(Settlement(second, [], "unresolved"))  # its end is another one meanwhile
    states = await books.ledger.settle_batch(batch)
    assert states == ["settled", "settled", "granted", "settled", "unknown", "ended"]
    assert await books.budget() == (2 * HOLD_MICROS, 2 * 36_000)
    assert await books.ledger.settle_batch(batch) == states
    assert (await books.budget(), await books.unbalanced()) == ((2 * HOLD_MICROS, 2 * 36_000), 0)
    assert await books.sql("SELECT count(*) FROM ledger_entries WHERE kind = 'settle'") == 4  # of two accounts each


async def test_a_batch_is_posted_whole_or_not_at_all(books: Books) -> None:
    good, bad = await ended_calls(books, 2)
    wrong = CostLine("carrier_voice_minutes", Decimal(10) ** 13, 1)  # more than can be kept
    with pytest.raises(DBAPIError):
        await books.ledger.settle_batch([Settlement(good, billed(70)), Settlement(bad, [wrong])])
    assert await books.budget() == (2 * HOLD_MICROS, 0)


async def test_batches_that_meet_settle_each_attempt_once_and_never_deadlock(books: Books) -> None:
    attempts = await ended_calls(books, 6)
    chance = random.Random(3)  # noqa: S311  # an order, not a secret
    batches = [chance.sample(attempts, len(attempts)) for _ in range(8)]
    answers = await asyncio.gather(
        *(
            books.ledger.settle_batch([Settlement(each, billed(70), "completed") for each in batch])
            for batch in batches
        ),
        *(books.hold(index) for index in range(6, 12)),
    )
    assert answers[:8] == [["settled"] * 6] * 8
    assert (await books.unbalanced(), (await books.budget())[1]) == (0, 6 * 36_000)
