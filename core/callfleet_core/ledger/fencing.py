"""The epoch that every write of the operator carries, and the error by which the database refuses an old one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.db.outages import sqlstate
from callfleet_core.errors import StaleEpochError

_STALE_EPOCH_SQLSTATE: Final = "CF001"


async def assert_epoch(connection: AsyncConnection, epoch: int) -> None:
    """Fences a transaction of the operator's. Raises StaleEpochError when another one leads."""
    try:
        await connection.execute(text("SELECT ledger_assert_epoch(:epoch)"), {"epoch": epoch})
    except DBAPIError as error:
        raise named(error) from None


@asynccontextmanager
async def fenced(engine: AsyncEngine, epoch: Callable[[], int] | None) -> AsyncIterator[AsyncConnection]:
    """A transaction under the leader's epoch, or a plain one for whoever leads nothing and gives None.

    Raises StaleEpochError when another operator leads.
    """
    async with engine.begin() as connection:
        if epoch is not None:
            await assert_epoch(connection, epoch())
        yield connection


def named(error: DBAPIError) -> Exception:
    """The database's error by the name that callers know."""
    if sqlstate(error) == _STALE_EPOCH_SQLSTATE:
        return StaleEpochError("another operator leads: this one must take a new epoch before it writes")
    return error
