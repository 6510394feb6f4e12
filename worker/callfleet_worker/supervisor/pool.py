"""The pool of call processes: as many idle ones as free slots, and one more for the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from callfleet_worker.supervisor.call_processes import CallProcess, CallProcessError

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
CHECK_S = 5.0

_log = structlog.get_logger(__name__)


class CallPool:
    """Spawns one at a time, so that a live call keeps its share of the processor."""

    def __init__(self, slots: int, spawn: Callable[[], Awaitable[CallProcess]]) -> None:
        self._slots, self._spawn = slots, spawn
        self._idle: deque[CallProcess] = deque()
        self._wanted = asyncio.Event()
        self._available = asyncio.Event()
        self.busy = 0

    @property
    def idle(self) -> int:
        """Processes that can take an attempt now."""
        return sum(process.alive for process in self._idle)

    async def acquire(self, timeout_s: float) -> CallProcess | None:
        """An idle process for a free slot, waited for; nothing after `timeout_s`. Ends with `release`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (process := self._take()) is None:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                return None
            self._available.clear()
            await _wait(self._available, left_s)
        return process

    def _take(self) -> CallProcess | None:
        if self.busy >= self._slots:
            return None
        while self._idle:
            process = self._idle.popleft()
            if process.alive:
                self.busy += 1
                self._wanted.set()
                return process
        self._wanted.set()
        return None

    def release(self) -> None:
        """A call is over; its process has ended with it."""
        self.busy -= 1
        self._wanted.set()
        self._available.set()

    async def keep_filled(self) -> None:
        """Spawns what is missing, until it is cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            self._wanted.clear()
            self._idle = deque(process for process in self._idle if process.alive)
            if len(self._idle) >= self._slots - self.busy + 1:
                await _wait(self._wanted, CHECK_S)
                continue
            try:
                self._idle.append(await self._spawn())
                self._available.set()
                pause_s = FIRST_PAUSE_S
            except (CallProcessError, OSError) as error:
                _log.error("a call process could not be started", error=str(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, pause_s * 2)

    async def close(self) -> None:
        """Ends the idle ones."""
        await asyncio.gather(*(process.stop() for process in self._idle))
        self._idle.clear()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
