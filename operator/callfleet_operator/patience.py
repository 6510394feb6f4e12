"""Starting while PostgreSQL or the API server is away: they are waited for, by the process that is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
import structlog
from kubernetes_asyncio.client.exceptions import ApiException
from sqlalchemy.exc import SQLAlchemyError

# A process that ends instead is started again by the kubelet after pauses that grow to five minutes. The chart's
# startup probe allows a little more than this; after it the process ends, and says what it has waited for.
WAIT_S: Final = 600.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0

_AWAY: Final = (ApiException, aiohttp.ClientError, SQLAlchemyError, OSError, TimeoutError)

_log = structlog.get_logger(__name__)


async def until_there(look: Callable[[], Awaitable[None]], within_s: float = WAIT_S) -> None:
    """Looks until both have answered; raises the last failure once the time is over."""
    loop = asyncio.get_running_loop()
    deadline_s, pause_s = loop.time() + within_s, FIRST_PAUSE_S
    while True:
        try:
            return await look()
        except _AWAY as error:
            if loop.time() + pause_s > deadline_s:
                raise
            _log.warning(
                "PostgreSQL or the API server does not answer; waiting", error=_short(error), retry_in_s=pause_s
            )
        await asyncio.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


def _short(error: Exception) -> str:
    """The first line: what follows in a database's error are the statement and its parameters."""
    status = getattr(error, "status", None)
    said = status or next(iter(str(error)[:200].splitlines()), "")
    return f"{type(error).__name__} {said}"
