"""Holds that are asked for at the same time go into one transaction, so that they share its locks and its fsync."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from callfleet_core.db.outages import is_the_servers, sqlstate, until_done
from callfleet_core.ledger.batch import Batch, KnownScripts
from callfleet_core.ledger.fencing import named
from callfleet_core.ledger.records import HoldAnswer, HoldRequest

# A few holds gain more by sharing a transaction than by a second one beside it, which waits for the same accounts and
# the same disk. Many are judged and granted on several cores at once.
_LANES: Final = 2
_WORTH_ANOTHER: Final = 50
_MOST_ITEMS: Final = 200
# A connection is kept for the next asker for so long; taking one from the pool costs half as much as a hold.
_LINGER_S: Final = 0.05
_SCRIPT_MISSING: Final = "CF002"


@dataclass(frozen=True)
class _Asked:
    """What one caller asks for, under the epoch in which it was planned."""

    epoch: int
    requests: tuple[HoldRequest, ...]
    answers: asyncio.Future[list[HoldAnswer]]


class HoldDesk:
    """Where all holds of one operator are asked for; callers wait in the order in which they came.

    A lane is a task that keeps one connection for as long as there is something to ask.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        # One statement is one transaction: no BEGIN and COMMIT of their own.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._known = KnownScripts()
        self._queue: deque[_Asked] = deque()
        self._lanes: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[None]] = set()

    async def hold(self, epoch: int, requests: Sequence[HoldRequest]) -> list[HoldAnswer]:
        """Holds in the order given, each item whole or not at all; answers in the same order.

        A caller that is cancelled has perhaps been granted what it asked for: such grants expire.
        """
        asked = _Asked(epoch, tuple(requests), asyncio.get_running_loop().create_future())
        self._queue.append(asked)
        self._wake()
        return await asked.answers

    def _wake(self) -> None:
        """Sees to it that somebody works on the queue."""
        if self._waiting:
            lane = self._waiting.pop()
            if not lane.done():
                lane.set_result(None)
            return
        if not self._lanes or (len(self._lanes) < _LANES and self._items() >= _WORTH_ANOTHER):
            task = asyncio.create_task(self._work())
            self._lanes.add(task)
            task.add_done_callback(self._left)

    def _items(self) -> int:
        return sum(len(asked.requests) for asked in self._queue)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._lanes.discard(task)
        if self._queue and not task.cancelled():
            self._wake()

    async def _work(self) -> None:
        """A lane: works until there is nothing to do for a while, or its connection is lost."""
        try:
            async with self._engine.connect() as connection:
                while await self._is_asked() and not connection.invalidated:
                    await self._answer(connection, self._next())
        except BaseException as error:  # whatever it was, it is the callers' to handle
            if self._queue:
                self._tell(self._next(), error)
            if not isinstance(error, Exception):
                raise

    async def _is_asked(self) -> bool:
        """Whether there is something in the queue, now or soon."""
        # Those who were answered just now ask again before the next transaction is filled.
        await asyncio.sleep(0)
        if not self._queue:
            lane = asyncio.get_running_loop().create_future()
            self._waiting.add(lane)
            await asyncio.wait([lane], timeout=_LINGER_S)
            self._waiting.discard(lane)
        return bool(self._queue)

    def _next(self) -> list[_Asked]:
        """The callers of the next transaction: of one epoch, at most _MOST_ITEMS, but at least one."""
        together = [self._queue.popleft()]
        items = len(together[0].requests)
        while self._queue and self._queue[0].epoch == together[0].epoch:
            items += len(self._queue[0].requests)
            if items > _MOST_ITEMS:
                break
            together.append(self._queue.popleft())
        return together

    async def _answer(self, connection: AsyncConnection, together: list[_Asked]) -> None:
        try:
            requests = [item for asked in together for item in asked.requests]
            answers = await self._hold(connection, together[0].epoch, requests)
        except BaseException as error:  # noqa: BLE001  # as above
            await self._failed(connection, together, error)
            return
        for asked in together:
            if not asked.answers.done():
                asked.answers.set_result(answers[: len(asked.requests)])
            del answers[: len(asked.requests)]

    async def _failed(self, connection: AsyncConnection, together: list[_Asked], error: BaseException) -> None:
        """One caller's bad item is that caller's error alone; what the server lacks, it lacks for all."""
        if isinstance(error, DBAPIError) and not is_the_servers(error) and len(together) > 1:
            for index, asked in enumerate(together):
                if connection.invalidated:  # the next lane has one that works
                    self._queue.extendleft(reversed(together[index:]))
                    return
                await self._answer(connection, [asked])
            return
        self._tell(together, error)
        if not isinstance(error, Exception):
            raise error

    def _tell(self, together: list[_Asked], error: BaseException) -> None:
        for asked in together:
            if not asked.answers.done():
                asked.answers.set_exception(error)

    async def _hold(self, connection: AsyncConnection, epoch: int, requests: list[HoldRequest]) -> list[HoldAnswer]:
        batch = Batch(requests)
        try:
            answers = await self._call(connection, epoch, batch.document(self._known))
        except DBAPIError as error:
            if sqlstate(error) != _SCRIPT_MISSING or error.connection_invalidated:
                raise
            # The database lost a script that it had: it was restored from a backup.
            self._known.forget()
            answers = await self._call(connection, epoch, batch.document(self._known))
        self._known.add(batch.scripts)
        return batch.answers(answers)

    async def _call(self, connection: AsyncConnection, epoch: int, document: str) -> list[dict[str, Any]]:
        async def call() -> list[dict[str, Any]]:
            result = await connection.exec_driver_sql("SELECT ledger_hold(%s, %s::jsonb)", (epoch, document))
            answers: list[dict[str, Any]] = result.scalar_one()
            return answers

        try:
            return await until_done(call)
        except DBAPIError as error:
            raise named(error) from None
