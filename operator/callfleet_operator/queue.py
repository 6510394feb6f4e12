"""A keyed work queue: each key is worked on by one worker at a time, however often it was asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog

Key = TypeVar("Key", bound=Hashable)

_log = structlog.get_logger(__name__)

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
# What is expected now and then is over sooner; so often in a row it is no more.
FIRST_EXPECTED_RETRY_S = 0.2
WARNED_OF_AFTER = 5


class KeyedQueue(Generic[Key]):
    """Keys to work on, each at most once in the queue; failures come back with exponential delay.

    A key added while it is being worked on is worked on once more afterwards. Distinct keys bound the memory:
    there is one a live object.

    Keys that are one of `many` stand in a line of their own, and every other worker begins with the others: what
    concerns all (who is admitted next) does not wait behind fifty thousand of them, nor they behind it.

    `expected`: failures that are nobody's fault, such as another's write that came first.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[None]],
        workers: int,
        many: Callable[[Key], bool] = lambda _: False,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._workers = workers
        self._is_one_of_many = many
        self._expected = expected
        self._few: deque[Key] = deque()
        self._many: deque[Key] = deque()
        self._ready = asyncio.Semaphore(0)
        self._queued: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._queued) + len(self._active)

    def add(self, key: Key) -> None:
        """Asks for the key to be worked on as soon as a worker is free."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            (self._many if self._is_one_of_many(key) else self._few).append(key)
            self._ready.release()

    def add_after(self, key: Key, delay_s: float) -> None:
        """Asks for the key to be worked on in `delay_s` seconds; an earlier wish wins."""
        loop = asyncio.get_running_loop()
        known = self._timers.get(key)
        if known is not None:
            if known.when() <= loop.time() + delay_s:
                return
            known.cancel()
        self._timers[key] = loop.call_later(delay_s, self._fire, key)

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(self._workers):
                    lines = (self._few, self._many) if index % 2 == 0 else (self._many, self._few)
                    group.create_task(self._work_forever(lines))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work_forever(self, lines: tuple[deque[Key], deque[Key]]) -> None:
        while True:
            await self._ready.acquire()
            key = (lines[0] or lines[1]).popleft()
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
        expected = isinstance(error, self._expected)
        first_s = FIRST_EXPECTED_RETRY_S if expected else FIRST_RETRY_S
        delay_s = min(LONGEST_RETRY_S, first_s * 2 ** min(failures - 1, 10))
        tell = _log.debug if expected and failures < WARNED_OF_AFTER else _log.warning
        tell("reconcile failed", key=str(key), failures=failures, retry_in_s=delay_s, error=repr(error)[:500])
        self.add_after(key, delay_s)
