"""Time that passes only when everybody waits, and dice that are thrown alike in every run."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from tests.chaos import virtual


class VirtualLoop(virtual.VirtualLoop):
    """A loop in virtual time that begins at an instant: the same calls in the same order, however fast the machine."""

    def __init__(self, beginning: datetime) -> None:
        super().__init__(lambda _: None)
        self.beginning = beginning

    def now(self) -> datetime:
        """The instant, to the microsecond."""
        return self.beginning + timedelta(seconds=self.time())


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
