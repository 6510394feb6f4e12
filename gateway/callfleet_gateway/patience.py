"""A part that starts again is back in seconds: who has somebody on the line waits for it, and no longer than that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

# The carrier gives a request for TwiML 15 s, and a person who has picked up says hello twice meanwhile.
PATIENCE_S = 8.0
PAUSE_S = 0.25

_Answer = TypeVar("_Answer")

log = structlog.get_logger(__name__)


class PartAwayError(Exception):
    """PostgreSQL or Redis did not answer for as long as a call can wait; `part` says which."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} does not answer")
        self.part = part


async def patiently(ask: Callable[[], Awaitable[_Answer]], within_s: float = PATIENCE_S) -> _Answer:
    """Asks until PostgreSQL and Redis have answered; what is asked must be safe to repeat. Raises PartAwayError."""
    part = "postgresql"
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await ask()
                except IntegrityError:
                    raise  # an answer
                except (SQLAlchemyError, RedisError) as error:
                    part = "redis" if isinstance(error, RedisError) else "postgresql"
                    log.warning("asked again", part=part, error=type(error).__name__)
                await asyncio.sleep(PAUSE_S)
    except TimeoutError as error:
        raise PartAwayError(part) from error
