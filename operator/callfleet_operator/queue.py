"""A keyed work queue: each key is worked on by one worker at a time, however often it was asked for."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

Key = TypeVar("Key", bound=Hashable)

_log = structlog.get_logger(__name__)

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0


class KeyedQueue(Generic[Key]):
    """Keys to work on, each at most once in the queue; failures come back with exponential delay.

    A key added while it is being worked on is worked on once more afterwards. Distinct keys bound the memory:
    there is one a live object.
    """

    def __init__(self, work: Callable[[Key], Awaitable[None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._ready: deque[Key] = deque()
        self._queued: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._delayed: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._sequence = itertools.count()
        self._wake = asyncio.Condition()
        self._wakers: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._ready) + len(self._active)

    def add(self, key: Key) -> None:
        """Asks for the key to be worked on as soon as a worker is free."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._notify()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Asks for the key to be worked on in `delay_s` seconds; an earlier wish wins."""
        due = asyncio.get_running_loop().time() + delay_s
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._delayed, (due, next(self._sequence), key))
        self._notify()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._release_due())
            for _ in range(self._workers):
                group.create_task(self._work_forever())

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._wake:
                self._wake.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _release_due(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._delayed and self._delayed[0][0] <= loop.time():
                due, _, key = heapq.heappop(self._delayed)
                if self._due.get(key) == due:
                    del self._due[key]
                    self.add(key)
            timeout = max(0.0, self._delayed[0][0] - loop.time()) if self._delayed else None
            async with self._wake:
                try:
                    await asyncio.wait_for(self._wake.wait(), timeout)
                except TimeoutError:
                    continue

    async def _work_forever(self) -> None:
        while True:
            async with self._wake:
                await self._wake.wait_for(lambda: bool(self._ready))
                key = self._ready.popleft()
            self._queued.discard(key)
            self._active.add(key)
            try:
                await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001  # any failure is logged and tried again, bounded in pace
                self._retry(key, error)
            finally:
                self._active.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _retry(self, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(failures - 1, 10))
        _log.warning("reconcile failed", key=str(key), failures=failures, retry_in_s=delay_s, error=repr(error)[:500])
        self.add_after(key, delay_s)
