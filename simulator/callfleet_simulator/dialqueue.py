"""The account's pace: calls wait in the order in which they came, and so many a second are dialled."""

from __future__ import annotations

import asyncio


class DialQueue:
    """First come, first dialled, `per_second` at most. A call that leaves gives its place to the next at once."""

    def __init__(self, per_second: float) -> None:
        self._period_s = 1 / per_second
        self._head = asyncio.Lock()  # fair: the longest waiting task gets it
        self._next = 0.0
        self.waiting = 0

    def join(self) -> int:
        """Takes a place at the end; answers after how many milliseconds it will be its turn. `turn` must follow."""
        ahead_s = max(0.0, self._next - asyncio.get_running_loop().time())
        wait_ms = round((ahead_s + self.waiting * self._period_s) * 1000)
        self.waiting += 1
        return wait_ms

    async def turn(self, leave: asyncio.Event) -> bool:
        """Waits until it is this call's turn; False when `leave` was set first."""
        head, left = asyncio.create_task(self._reach_the_head()), asyncio.create_task(leave.wait())
        try:
            await asyncio.wait({head, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.waiting -= 1
            head.cancel()
            left.cancel()
            await asyncio.gather(head, left, return_exceptions=True)
        return not leave.is_set()

    async def _reach_the_head(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._head:
            await asyncio.sleep(max(0.0, self._next - loop.time()))
            self._next = loop.time() + self._period_s
