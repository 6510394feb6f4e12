"""The partitions of `calls`, made ahead of their year: by the operator, and by `callfleet database partitions`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

YEARS_AHEAD = 1


async def ensure_partitions(engine: AsyncEngine, now: datetime, years_ahead: int = YEARS_AHEAD) -> int:
    """Makes what is missing from this year to `years_ahead` further ones; answers how many were made.

    A call of a year without a partition is not lost: it lies in calls_default until its partition is made.
    """
    async with engine.begin() as connection:
        made = await connection.execute(
            text("SELECT ensure_call_partitions(:first, :last)"), {"first": now.year, "last": now.year + years_ahead}
        )
        return int(made.scalar_one())


async def unpartitioned(engine: AsyncEngine) -> int:
    """Calls that lie in calls_default: anything but 0 means that nobody made their partition."""
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM calls_default"))).scalar_one())
