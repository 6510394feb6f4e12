"""Where a fault happens: the servers, the proxy before them, the load; and whether it did happen."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from tests.chaos.faults.load import APPLICATION, Load
from tests.chaos.faults.servers import Server
from tests.chaos.faults.shim import Machine
from tests.chaos.proxy import Proxy


class NothingHappenedError(AssertionError):
    """A fault that was to be, and was not: what was shown beside it shows nothing."""


@dataclass
class Stage:
    """`server` is the one that takes writes; `standby` is None where there is none."""

    server: Server
    standby: Server | None
    machine: Machine
    proxy: Proxy
    load: Load
    ended_at: float | None = None
    _states: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._states = self.server.states()

    def said(self, state: str) -> int:
        """How often the server's log has that SQLSTATE since the stage was set."""
        return self.server.states()[state] - self._states[state]

    def must_have_said(self, *states: str) -> None:
        """Raises NothingHappenedError unless the server's log has one of these SQLSTATEs since the stage was set."""
        if not any(self.said(state) for state in states):
            raise NothingHappenedError(f"the server never said {' or '.join(states)}: {dict(self.server.states())}")

    def must_have_failed(self, since: int) -> None:
        """Raises NothingHappenedError unless the load met more errors than it had `since` then."""
        if self.load.history.failures <= since:
            raise NothingHappenedError("nobody noticed anything")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A session of somebody else's, straight to the server, each statement by itself."""
        connection = await psycopg.AsyncConnection.connect(self.server.url, autocommit=True, connect_timeout=5)
        async with connection:
            yield connection

    def is_over(self) -> None:
        """Says that the fault ends here: what is still to be done is part of the recovery."""
        self.ended_at = time.monotonic()

    async def backends(self, session: psycopg.AsyncConnection[Any], what: str, most: int = 1) -> list[Any]:
        """`what` of some of the load's backends, the busy ones first."""
        query = sql.SQL(
            "SELECT {} FROM pg_stat_activity WHERE application_name = {} AND backend_type = 'client backend'"
            " ORDER BY state = 'active' DESC, random() LIMIT {}"
        ).format(sql.SQL(what), APPLICATION, most)
        return [row[0] for row in await (await session.execute(query)).fetchall()]


Fault = Callable[[Stage], Awaitable[None]]


async def aside(work: Callable[[], None]) -> None:
    """Something that blocks, while the load goes on."""
    await asyncio.to_thread(work)
