"""A slice of `make chaos-faults`: the faults that take seconds.

The others wait for timeouts, or need root; backends are killed in `test_chaos_ledger.py`, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.chaos.faults.chaos_faults import FAULTS, RECOVERED_WITHIN_S, Grounds, grounds, suffer

FAST = ("restart", "serialization", "deadlock", "promoted-standby", "read-only", "clock-skew")


@pytest.fixture(scope="module")
def where() -> Iterator[Grounds]:
    with grounds() as made:
        yield made


@pytest.mark.parametrize("fault", FAST)
def test_the_ledger_is_right_and_at_work_again_after(where: Grounds, fault: str) -> None:
    verdict = suffer(where, fault, "slice")
    assert verdict.violations == []
    assert verdict.recovered_s < RECOVERED_WITHIN_S
    assert verdict.operations > 200


def test_there_are_twelve_faults() -> None:
    assert len(FAULTS) == 12
