"""Whose fault a database's error is, and which transactions are simply tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

TRIES: Final = 3  # E2 of docs/requirements.md
_LONGEST_PAUSE_S: Final = 0.1
# serialization_failure and deadlock_detected: PostgreSQL has undone the whole transaction for another one's sake.
_UNDONE: Final = frozenset({"40001", "40P01"})
# By SQLSTATE's class: connection, transaction state (a read-only server), rollback, resources, object state (locks),
# an operator's intervention, the system.
_SERVERS_CLASSES: Final = frozenset({"08", "25", "40", "53", "55", "57", "58"})

Answer = TypeVar("Answer")


def sqlstate(error: BaseException | None) -> str | None:
    """PostgreSQL's code; None where it was not PostgreSQL that spoke."""
    state: str | None = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state


def is_the_servers(error: DBAPIError) -> bool:
    """True when the server, the network or another session is at fault, and not what was asked."""
    if error.connection_invalidated:  # whatever it said before
        return True
    state = sqlstate(error)
    if state is None:  # PostgreSQL did not speak
        return isinstance(error, OperationalError)
    return state[:2] in _SERVERS_CLASSES


async def until_done(transaction: Callable[[], Awaitable[Answer]]) -> Answer:
    """A whole transaction's answer, tried at most TRIES times while PostgreSQL undoes it for another one's sake.

    Safe for every transaction, since such an error says that nothing of it happened. A lost connection says nothing,
    and is the caller's to judge, also when it was lost right after such an error: the transaction may have no other.
    Raises what the transaction raises.
    """
    for _ in range(TRIES - 1):
        try:
            return await transaction()
        except DBAPIError as error:
            if sqlstate(error) not in _UNDONE or error.connection_invalidated:
                raise
        # Whoever was in the way is let pass, and two that met do not meet again.
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))  # noqa: S311  # a pause, not a secret
    return await transaction()
