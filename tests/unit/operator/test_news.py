"""Which news of a status are written at once, and which a moment later, all together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callfleet_operator.objects import format_time
from callfleet_operator.plan.news import rest_s

NOW = datetime(2026, 11, 29, 9, tzinfo=UTC)
READY = {"type": "Ready", "status": "True", "reason": "Served", "message": "", "lastTransitionTime": "then"}
STATUS: dict[str, Any] = {
    "observedGeneration": 2, "runID": "1", "progress": "3/9", "model": {"serving": "llama3.1:8b"},
    "conditions": [READY],
}  # fmt: skip


def waits_s(age_s: float, **news: Any) -> float:
    return rest_s(STATUS, STATUS | news, format_time(NOW - timedelta(seconds=age_s)), NOW, 5)


def test_numbers_are_told_together() -> None:
    assert waits_s(1, progress="4/9") == 4
    assert waits_s(5, progress="4/9") == 0
    assert waits_s(60, progress="4/9") == 0


@pytest.mark.parametrize(
    "news",
    [
        {"observedGeneration": 3},
        {"runID": "2"},
        {"model": {"serving": "llama3.1:8b", "pending": "qwen3:8b"}},
        {"conditions": [READY | {"status": "False", "reason": "CurrencyMismatch"}]},
        {"conditions": [READY, {"type": "Finished", "status": "True", "reason": "Finished"}]},
    ],
)
def test_what_somebody_waits_for_is_told_at_once(news: dict[str, Any]) -> None:
    assert waits_s(0, **news) == 0


def test_an_absent_field_and_a_null_are_the_same() -> None:
    assert waits_s(1, model={"serving": "llama3.1:8b", "pending": None}) == 4


def test_the_first_status_and_one_of_a_clock_that_went_back_are_not_kept_waiting() -> None:
    assert rest_s({}, STATUS, None, NOW, 5) == 0
    assert waits_s(-3_600, progress="4/9") == 0
