"""What waiting sessions are told at once, what in turn, and what not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.operator.admissions import HOLD, NOW, session, snapshot

from callfleet_core.api.callsession import Reason
from callfleet_operator.plan.admission import Snapshot, Wait, plan_admissions
from callfleet_operator.plan.pace import Pace
from callfleet_operator.plan.session import pending_status
from callfleet_operator.plan.told import RETOLD_AT_ONCE, News, in_turn, message_of, news_of

SECOND = timedelta(seconds=1)


def waits(shot: Snapshot) -> list[Wait]:
    return [item for item in plan_admissions(shot, NOW) if isinstance(item, Wait)]


def told(wait: Wait) -> dict[str, Any]:
    """The status that a wait is written as."""
    return pending_status(
        {},
        wait.reason,
        NOW,
        shortfall_micros=wait.shortfall_micros,
        retry_at=wait.retry_at,
        message=message_of(wait),
    )


def at_most(calls: int) -> Wait:
    """Waits for one of so many calls of its campaign to end."""
    (wait,) = waits(snapshot(session(0), concurrent=calls, open_attempts=calls))
    return wait


def paced(per_second: str, concurrent: int = 100) -> Wait:
    """Waits, as the last of sixty, for its campaign's own pace."""
    shot = snapshot(*(session(index) for index in range(60)), limit=None, concurrent=concurrent)
    view = replace(shot.campaigns["sales", "spring"], pace=Pace(Decimal(per_second)))
    return waits(replace(shot, campaigns={("sales", "spring"): view}))[-1]


def lacking(spent: int) -> Wait:
    (wait,) = waits(snapshot(session(0), limit=100_000, spent=spent))
    return wait


@pytest.mark.parametrize(
    ("said", "meant", "news"),
    [
        (at_most(10), at_most(10), News.NONE),
        (at_most(10), at_most(12), News.UNTRUE),  # the limit was changed
        (at_most(10), paced("1", 10), News.MOVED),  # both limits hold, one is reached now and then
        (paced("1"), at_most(10), News.UNTRUE),  # it has no pace any more
        (paced("10"), paced("11"), News.NONE),
        (paced("0.001"), paced("10"), News.UNTRUE),
        (lacking(70_000), lacking(70_000), News.NONE),
        (lacking(70_000), lacking(80_000), News.MOVED),
        (lacking(70_000), Wait(session(0), Reason.BUDGET_HELD, 6_000), News.UNTRUE),
    ],
)
def test_what_does_not_hold_is_news_and_what_moves_can_wait(said: Wait, meant: Wait, news: News) -> None:
    assert news_of(told(said), meant, NOW) is news


def test_a_time_that_was_told_is_told_again_once_it_has_passed_or_is_much_too_late() -> None:
    meant = paced("1")
    assert meant.retry_at is not None
    for later, news in (
        (-(meant.retry_at - NOW), News.UNTRUE),
        (timedelta(), News.NONE),
        (80 * SECOND, News.NONE),
        (100 * SECOND, News.UNTRUE),
    ):
        said = replace(meant, retry_at=meant.retry_at + later)
        assert news_of(told(said), meant, NOW) is news, later


def test_another_reason_that_is_as_true_is_no_news() -> None:
    (wait,) = waits(snapshot(session(0), slots=0, concurrent=10, open_attempts=10))
    assert news_of({"reason": "NoCapacity"}, wait, NOW) is News.NONE


def test_everybodys_turn_comes_to_be_told_what_has_moved() -> None:
    everybody = [Wait(session(index), Reason.BUDGET_HELD, HOLD) for index in range(100)]
    last, seen = None, list[tuple[str, str]]()
    for _ in range(3):
        turn = in_turn(everybody, last)
        assert len(turn) == RETOLD_AT_ONCE
        seen += [wait.session.key for wait in turn]
        last = seen[-1]
    assert {wait.session.key for wait in everybody} == set(seen)
    assert in_turn(everybody[:3], None) == everybody[:3]
