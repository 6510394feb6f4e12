"""Transactions of the operator that leads: each carries its epoch, so that a deposed one changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.ledger import assert_epoch


@asynccontextmanager
async def fenced(engine: AsyncEngine, epoch: Callable[[], int] | None) -> AsyncIterator[AsyncConnection]:
    """A transaction under the leader's epoch, or a plain one for whoever leads nothing and gives None.

    Raises StaleEpochError when another operator leads.
    """
    async with engine.begin() as connection:
        if epoch is not None:
            await assert_epoch(connection, epoch())
        yield connection
