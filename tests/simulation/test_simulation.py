"""Days of campaigns in virtual time: a slice of `make simulate`, and that it can fail."""

from __future__ import annotations

import pytest
from tests.simulation.simulate import caught
from tests.simulation.world import live

CONTACTS = 60


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_day_passes_without_a_violation(seed: int) -> None:
    outcome = live(seed, CONTACTS)
    assert outcome.violations == []
    assert outcome.events > 0


def test_a_seed_lives_the_same_day_again() -> None:
    first, again, other = live(4, CONTACTS), live(4, CONTACTS), live(5, CONTACTS)
    assert first == again
    assert first.digest != other.digest


@pytest.mark.parametrize(
    "defect", ["the-ledger-holds-what-no-limit-covers", "nobody-looks-at-the-clock", "retries-come-at-once"]
)
def test_a_deliberate_defect_is_found(defect: str) -> None:
    assert caught(defect) is not None
