"""A 20 ms clock that does not drift, and an honest record of how late it was."""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np


class Lateness:
    """The last frames' lateness in milliseconds, over all calls of this process."""

    def __init__(self, kept: int = 200_000) -> None:
        self._late_ms: deque[float] = deque(maxlen=kept)
        self.frames = 0

    def add(self, late_ms: float) -> None:
        """Notes one frame."""
        self.frames += 1
        self._late_ms.append(late_ms)

    def percentile(self, percent: float) -> float:
        """E.g. 99 → the lateness (ms) that 99 % of the kept frames did not exceed; 0.0 before any frame."""
        return float(np.percentile(np.asarray(self._late_ms), percent)) if self._late_ms else 0.0


class Ticker:
    """Wakes at start + n periods. A late tick does not move the later ones: what was missed is caught up."""

    def __init__(self, period_s: float, lateness: Lateness) -> None:
        self._period_s = period_s
        self._lateness = lateness
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()

    async def tick(self) -> None:
        """Sleeps until the next deadline; returns at once when it has passed."""
        self._next += self._period_s
        delay_s = self._next - self._loop.time()
        await asyncio.sleep(max(0.0, delay_s))
        self._lateness.add(max(0.0, self._loop.time() - self._next) * 1000)
