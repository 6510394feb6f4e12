"""Many small things at once, and not too many: what waits for a server one after the other wastes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

# As many as the API server's and PostgreSQL's connections leave room for, beside the queue's workers.
AT_ONCE = 12

Item = TypeVar("Item")


async def each(items: Iterable[Item], act: Callable[[Item], Awaitable[None]], at_once: int = AT_ONCE) -> None:
    """Acts on every item, `at_once` at a time, begun in their order.

    One that fails keeps no other from its turn; the first failure is raised when all are done.
    """
    waiting = list(items)
    left = iter(waiting)
    failures: list[Exception] = []

    async def work() -> None:
        for item in left:
            try:
                await act(item)
            except Exception as error:  # noqa: BLE001  # raised below
                failures.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(waiting))):
            group.create_task(work())
    if failures:
        raise failures[0]
