"""What was done a moment ago, and is not to be done again before that moment is over."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Lately(Generic[Item]):
    """Remembers each item for so long, and so no more of them than come in that time."""

    def __init__(self, remembered_for: timedelta) -> None:
        self._for = remembered_for
        # In the order in which they are forgotten.
        self._until: dict[Item, datetime] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, item: Item, now: datetime) -> None:
        """It has happened now."""
        self._until.pop(item, None)
        self._until[item] = now + self._for
        while self._until[first := next(iter(self._until))] <= now:
            del self._until[first]

    def has(self, item: Item, now: datetime) -> bool:
        """Whether it happened that lately."""
        until = self._until.get(item)
        return until is not None and now < until
