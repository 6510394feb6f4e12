"""What the carrier lends to each call, and where a call's instructions come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from callfleet_simulator.audio import LineNoise
from callfleet_simulator.billing import Prices
from callfleet_simulator.calls import Call
from callfleet_simulator.dialqueue import DialQueue
from callfleet_simulator.far_end import FarEnd
from callfleet_simulator.faults import Faults
from callfleet_simulator.pacing import Lateness
from callfleet_simulator.people import Person
from callfleet_simulator.webhooks import Webhooks


@dataclass(frozen=True)
class Line:
    """What the carrier lends to each call."""

    webhooks: Webhooks
    prices: Prices
    lateness: Lateness
    person_at: Callable[[str], Person | None]
    far_end: Callable[[Call, Person], FarEnd]
    noise: Callable[[float], LineNoise]
    queue: DialQueue
    faults: Faults
    has_room: Callable[[], bool]
    queue_s: float
    price_delay_s: Callable[[], float]
    closing: asyncio.Event


@dataclass(frozen=True)
class Document:
    """Where the next TwiML comes from."""

    twiml: str | None = None
    url: str | None = None
    method: str = "POST"
