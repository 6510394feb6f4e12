"""Identifiers that grow with time, so that an index on them is written at its end only."""

from __future__ import annotations

import os
import time
from uuid import UUID

_RANDOM_BYTES = 10


def time_ordered_id() -> UUID:
    """A UUID of version 7 (RFC 9562): the milliseconds since 1970, then 74 random bits."""
    random = int.from_bytes(os.urandom(_RANDOM_BYTES)) & ((1 << 76) - 1)
    high, low = random >> 64, random & ((1 << 62) - 1)
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
