"""The operator's walk settles what is over: all that can be, whatever is the matter with the others."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import api_server
from tests.integration.books import HOLD_MICROS, POD
from tests.integration.office import open_office

from callfleet_operator.reconcile import attempts


async def test_one_attempts_trouble_is_its_own(engine: AsyncEngine, database_url: str, tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        async with open_office(engine, database_url, server) as office:
            books = office.books
            held = [await books.held(index) for index in range(4)]
            for index, attempt in enumerate(held[:3]):
                await books.dialed(attempt, f"CA{index:032d}")
            await books.dialing.begin_dial(held[3], POD, uuid4())
            await books.ended(held[0])
            await books.ended(held[1], "completed", None)  # and the carrier knows no such call: no duration
            await books.ended(held[2])  # which PostgreSQL will not take
            await books.sql(f"ALTER TABLE cost_lines ADD CONSTRAINT no CHECK (attempt_id <> '{held[2]}')")
            await books.ended(held[3], "unresolved", None)  # may still be heard of
            await attempts.reconcile(office.operator.context)
            assert await books.budget() == (3 * HOLD_MICROS, 36_000)
            await books.sql("UPDATE dial_attempts SET duration_s = 59 WHERE id = :id", id=held[1])
            await books.sql("ALTER TABLE cost_lines DROP CONSTRAINT no")
            await books.sql("UPDATE dial_attempts SET begun_at = begun_at - interval '25 hours'")
            await attempts.reconcile(office.operator.context)
            assert (await books.budget(), await books.unbalanced()) == ((0, 2 * 36_000 + 18_000), 0)
