"""One client: asks through core's own classes what operator, worker and gateway ask, and notes what it is told."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.chaos.history import HistoryWriter
from tests.chaos.world import World

from callfleet_core.db.outages import sqlstate
from callfleet_core.dialing import DialStore
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import Ledger

# Open ones, and some that are over: evidence comes late, and twice.
_MOST_KNOWN: Final = 300
# Errors by which the server says that the connection ended, at a moment that the client cannot know.
_CONNECTION_LOST: Final = ("08", "57P", "25P03")


# What a cut connection raises; also at a read, of which nothing is written down.
CUT: Final = (DBAPIError, psycopg.Error, PoolTimeoutError, OSError)


class FollowingLedger(Ledger):
    """A ledger that can take over the epoch of another process of the same leader."""

    async def follow(self) -> None:
        """Writes under the newest epoch from now on."""
        async with self._engine.connect() as connection:
            self._epoch = int((await connection.execute(text("SELECT epoch FROM installation"))).scalar_one())


@dataclass
class Known:
    """What a client believes of an attempt; others may know better."""

    id: UUID
    person: int
    run: int
    hold_micros: int
    state: str = "granted"
    end_status: str | None = None
    nonces: list[UUID] = field(default_factory=list)
    sids: list[str] = field(default_factory=list)


@dataclass
class Player:
    """A client's parts and its memory."""

    random: Random
    world: World
    engine: AsyncEngine
    ledger: FollowingLedger
    dialing: DialStore
    history: HistoryWriter
    count: Callable[[int], None]
    known: OrderedDict[UUID, Known] = field(default_factory=OrderedDict)
    refused_in_a_row: int = 0

    def uuid(self) -> UUID:
        """A new one, by the seed."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def remember(self, known: Known) -> None:
        """Keeps an attempt in mind; the longest known is forgotten."""
        self.known[known.id] = known
        while len(self.known) > _MOST_KNOWN:
            self.known.popitem(last=False)

    async def ask(
        self,
        name: str,
        args: dict[str, Any],
        call: Callable[[str], Awaitable[Any]],
        *,
        key: str | None = None,
        items: int = 1,
    ) -> Any:
        """Asks, between the two lines of the history; answers None when it was refused or nobody knows.

        `call` is given the operation's key, and answers what JSON can say.
        """
        key = key or self.history.next_key()
        self.history.invoked(key, name, args)
        try:
            value = await call(key)
        except StaleEpochError:
            self.refused_in_a_row += 1
            self.history.answered(key, "refused", "StaleEpoch")
            return None
        except CUT as error:
            state = sqlstate(error)
            if state is not None and not state.startswith(_CONNECTION_LOST):
                self.history.answered(key, "refused", f"{state} {constraint(error)}")
            else:
                self.history.answered(key, "unknown", str(state))
            return None
        finally:
            self.count(items)
        self.history.answered(key, "ok", value)
        return value


def constraint(error: BaseException) -> str:
    """The constraint that refused, or the message's first line."""
    cause = getattr(error, "orig", None) or error
    named = getattr(getattr(cause, "diag", None), "constraint_name", None)
    return named or str(cause).splitlines()[0]
