"""Calls by year: made ahead, nothing lost where one is missing, and old years are left alone by new queries."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.integration.books import POD, Books

from callfleet_core.db.partitions import ensure_partitions, unpartitioned

THIS_YEAR = datetime.now(UTC).year


async def partition_of(books: Books, call: UUID) -> str:
    return str(await books.sql("SELECT tableoid::regclass::text FROM calls WHERE id = :call", call=call))


async def begun(books: Books, index: int) -> UUID:
    attempt = await books.held(index)
    await books.dialing.begin_dial(attempt, POD, uuid4())
    return attempt


async def test_a_call_lies_in_its_years_partition(books: Books) -> None:
    assert await partition_of(books, await begun(books, 0)) == f"calls_{THIS_YEAR}"
    assert await unpartitioned(books.engine) == 0


async def test_partitions_are_made_ahead_once(books: Books) -> None:
    now = datetime(THIS_YEAR, 12, 1, tzinfo=UTC)
    assert await ensure_partitions(books.engine, now) == 0  # the migration made this year's and the next
    assert await ensure_partitions(books.engine, now, years_ahead=3) == 2
    assert await ensure_partitions(books.engine, now, years_ahead=3) == 0


async def test_a_call_without_a_partition_waits_for_it_and_moves(books: Books) -> None:
    call, late = await begun(books, 0), THIS_YEAR + 5
    async with books.engine.begin() as connection:
        await connection.execute(
            text("UPDATE calls SET created_at = make_timestamptz(:year, 1, 1, 0, 0, 0, 'UTC'), turns = 7"),
            {"year": late},
        )
    assert await partition_of(books, call) == "calls_default"
    assert await unpartitioned(books.engine) == 1
    assert await ensure_partitions(books.engine, datetime(late, 1, 2, tzinfo=UTC), years_ahead=0) == 1
    assert await partition_of(books, call) == f"calls_{late}"
    assert await unpartitioned(books.engine) == 0
    assert await books.sql("SELECT turns FROM calls") == 7


async def test_a_time_range_reads_its_own_years_only(books: Books) -> None:
    async with books.engine.connect() as connection:
        plan = await connection.execute(
            text("EXPLAIN SELECT * FROM calls WHERE created_at >= :day"),
            {"day": datetime(THIS_YEAR + 1, 1, 1, tzinfo=UTC)},
        )
        text_of_plan = "\n".join(plan.scalars())
    assert f"calls_{THIS_YEAR + 1}" in text_of_plan
    assert f"calls_{THIS_YEAR} " not in text_of_plan


async def test_years_that_make_no_sense_are_refused(books: Books) -> None:
    with pytest.raises(DBAPIError, match="make no sense"):
        await ensure_partitions(books.engine, datetime(1999, 1, 1, tzinfo=UTC))
