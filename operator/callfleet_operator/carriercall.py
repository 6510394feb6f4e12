"""A call as the carrier has it, whoever asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from callfleet_core.dialing import EndStatus

FINAL_STATUSES: dict[str, EndStatus] = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "canceled",
}


@dataclass(frozen=True)
class CarrierCall:
    """A call as the carrier has it; the duration is in seconds, 0 when nobody answered.

    `price_micros` is what the call itself costs, in `currency`; None while the carrier has not said.
    """

    sid: str
    status: str
    duration_s: int | None
    created: datetime | None
    ended: datetime | None = None
    price_micros: int | None = None
    currency: str | None = None
    to: str = field(default="", repr=False)
    from_: str = ""

    @property
    def is_final(self) -> bool:
        """True once the call is over."""
        return self.status in FINAL_STATUSES
