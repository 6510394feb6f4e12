"""How many calls a campaign's own pace lets be admitted now, and when the others may be dialled. Pure.

begin_dial keeps the pace; admitting what it would make wait would only keep slots and money from others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

# What may be dialled within this time is admitted now: two cycles, and a worker's way to begin_dial.
AHEAD = timedelta(seconds=5)


@dataclass(frozen=True)
class Pace:
    """A campaign's pace, and what is on its way: `granted` attempts will each dial once before anybody else.

    `next_dial_at`: when PostgreSQL lets the next one be dialled; None: it may be now.
    """

    calls_per_second: Decimal
    next_dial_at: datetime | None = None
    granted: int = 0

    def dials_at(self, ahead: int, now: datetime) -> datetime:
        """When a call may be dialled that has so many others ahead of it, beside those on their way."""
        first = now if self.next_dial_at is None else max(self.next_dial_at, now)
        return first + timedelta(seconds=float((self.granted + ahead) / self.calls_per_second))

    def allows(self, ahead: int, now: datetime) -> bool:
        """Whether such a call may be admitted now."""
        return self.dials_at(ahead, now) <= now + AHEAD
