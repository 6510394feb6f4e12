"""Reads that may be a moment old, from a replica where there is one; whatever decides anything reads the primary."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.db.outages import sqlstate

# A replica that failed is left alone for so long.
AVOID_S = 30.0
# A query that a standby had to cancel (40001: "conflict with recovery"), a deadlock, and what says that the server
# stops or cannot take us: reading again, elsewhere, is always safe.
READ_AGAIN = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "53300", "25006"})

Answer = TypeVar("Answer")
Read = Callable[[AsyncConnection], Awaitable[Answer]]

_log = structlog.get_logger(__name__)


class Reader:
    """Read-only transactions: on the replica, or on the primary while the replica is away."""

    def __init__(
        self, primary: AsyncEngine, replica: AsyncEngine | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._primary, self._replica, self._clock = primary, replica, clock
        self._avoided_until = float("-inf")

    async def read(self, work: Read[Answer]) -> Answer:
        """Runs `work` in one read-only transaction, on one snapshot; at most once more, on the primary.

        What it reads may be as old as the replica's lag.
        """
        if self._replica is not None and self._clock() >= self._avoided_until:
            try:
                return await _snapshot(self._replica, work)
            except (DBAPIError, PoolTimeoutError, OSError) as error:
                if not _is_the_servers(error):
                    raise
                self._avoided_until = self._clock() + AVOID_S
                _log.warning("the read replica is avoided", error=type(error).__name__, for_s=AVOID_S)
        return await _snapshot(self._primary, work)


async def _snapshot(engine: AsyncEngine, work: Read[Answer]) -> Answer:
    async with engine.connect() as connection, connection.begin():
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        return await work(connection)


def _is_the_servers(error: Exception) -> bool:
    """True when the server, and not the query, is at fault."""
    if not isinstance(error, DBAPIError):
        return True
    state = sqlstate(error)
    return (
        error.connection_invalidated or state in READ_AGAIN or (isinstance(error, OperationalError) and state is None)
    )
