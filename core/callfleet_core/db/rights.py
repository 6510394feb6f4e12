"""What the roles of a release before may still do after a migration, and when that ends (docs/decisions/0035)."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


async def close_worker_tables(engine: AsyncEngine) -> bool:
    """Takes the tables away from the workers' role once the day is over that a migration gave earlier workers.

    Answers whether it did so now. `engine` is of the schema's owner.
    """
    async with engine.begin() as connection:
        return bool((await connection.execute(text("SELECT worker_tables_close()"))).scalar_one())
