"""Transactions whose statements take minutes, where everybody else's are given up after seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from callfleet_core.db.connection import BoundedConnection

# The server gives a statement up first, and says so.
_CLIENT_LATER_S = 5


@asynccontextmanager
async def statements_within(connection: AsyncConnection, within_s: int) -> AsyncIterator[None]:
    """In a transaction: each statement may take `within_s` seconds, for the server as for the client."""
    await connection.execute(text(f"SET LOCAL statement_timeout = '{within_s}s'"))
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, BoundedConnection):
        raise TypeError("the engine is not one of callfleet_core.db.engine.create_engine")
    driver.patience_s = within_s + _CLIENT_LATER_S
    try:
        yield
    finally:
        driver.patience_s = None
