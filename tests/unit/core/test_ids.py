"""Identifiers that grow with time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import RFC_4122

from callfleet_core.ids import time_ordered_id


def test_an_id_says_when_it_was_made() -> None:
    before = datetime.now(UTC).timestamp()
    made = time_ordered_id()
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before - 0.001 <= (made.int >> 80) / 1000 <= datetime.now(UTC).timestamp()


def test_a_later_id_is_larger() -> None:
    first = time_ordered_id()
    time.sleep(0.002)
    assert first < time_ordered_id()


def test_ids_of_one_millisecond_differ() -> None:
    assert len({time_ordered_id() for _ in range(20_000)}) == 20_000
