"""Time that passes only when everybody waits: an event loop whose clock jumps to the next instant at once."""

from __future__ import annotations

import asyncio
import selectors
from datetime import datetime, timedelta
from random import Random


class _Jump(selectors.SelectSelector):
    """Waits for nothing: what asyncio would sleep is added to the clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """No file is ever ready. Raises RuntimeError when nobody waits for an instant, so that none ever comes."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nobody for an instant")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: the same calls in the same order, however fast the machine is."""

    def __init__(self, beginning: datetime) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.beginning = beginning

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._jump.now_s

    def now(self) -> datetime:
        """The instant, to the microsecond."""
        return self.beginning + timedelta(seconds=self._jump.now_s)


class Chances:
    """Dice, one for each concern: what one of them throws changes nothing for the others."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice: dict[str, Random] = {}

    def of(self, concern: str) -> Random:
        """A concern's own; seeded by text, which Python hashes alike in every process."""
        if concern not in self._dice:
            self._dice[concern] = Random(f"{self._seed}/{concern}")  # noqa: S311  # to be thrown again
        return self._dice[concern]
