"""What waiting sessions are told, and how soon: a reason at once, what moves with every call in turn. Pure.

Thousands may wait for the same, and each settlement changes what each of them lacks: a write for each would cost more
than the calls (docs/decisions/0024), and would keep whoever was never told why they wait from being told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from callfleet_core.api.callsession import Reason
from callfleet_core.money import format_micros
from callfleet_operator.objects import format_time, parse_time
from callfleet_operator.plan.admission import Wait
from callfleet_operator.plan.session import admission_told

# So many, in turn, are told what has moved, and so often.
RETOLD_AT_ONCE = 40
RETOLD_EVERY = timedelta(seconds=5)
# A time is told again before it comes where what was told of the wait is more than so much longer than the wait is.
_LONGER, _LONGER_BY = 1.5, timedelta(minutes=1)
# Reasons with several causes, of which the message says which.
_WITH_CAUSE = frozenset({Reason.OUTSIDE_CALLING_HOURS, Reason.SUSPENDED})


class News(Enum):
    """What a session's status lacks of why it waits."""

    NONE = "says so already"
    MOVED = "a number, or one of several causes that come and go"
    UNTRUE = "what it says does not hold"


def message_of(wait: Wait) -> str:
    """What the condition Admitted says."""
    missing = shortfall_of(wait)
    return "; ".join(filter(None, (missing and f"{missing} {wait.session.currency} missing", wait.message)))


def shortfall_of(wait: Wait) -> str | None:
    """The money missing, as a status says it."""
    return None if wait.shortfall_micros is None else format_micros(wait.shortfall_micros)


def news_of(status: Mapping[str, Any], wait: Wait, now: datetime) -> News:
    """What is new for a session that waits, and says `status`."""
    if wait.or_says is not None and status.get("reason") == wait.or_says.value:
        return News.NONE
    if status.get("reason") != wait.reason.value:
        return News.UNTRUE
    if wait.reason is Reason.PACING:
        return _news_of_pace(status, wait, now)
    meant = format_time(wait.retry_at) if wait.retry_at else None
    if status.get("retryAt") != meant or (wait.reason in _WITH_CAUSE and admission_told(status) != message_of(wait)):
        return News.UNTRUE
    return News.NONE if status.get("shortfall") == shortfall_of(wait) else News.MOVED


def _news_of_pace(status: Mapping[str, Any], wait: Wait, now: datetime) -> News:
    """A limit is reached, or not, with every call, and an expected time moves a little; a changed limit is news."""
    told = admission_told(status)
    if told != wait.message:
        return News.MOVED if told in wait.may_say else News.UNTRUE
    said, meant = status.get("retryAt"), wait.retry_at
    if said is None or meant is None:
        return News.NONE
    left = parse_time(said) - now
    is_over, is_late = left <= timedelta(0), left > _LONGER * (meant - now) + _LONGER_BY
    return News.UNTRUE if is_over or is_late else News.NONE


def in_turn(waits: Sequence[Wait], last: tuple[str, str] | None) -> list[Wait]:
    """Those who are told next what has moved, by their sessions' names, from the one behind the `last` on."""
    ordered = sorted(waits, key=lambda wait: wait.session.key)
    behind = [wait for wait in ordered if last is not None and wait.session.key > last]
    return [*behind, *ordered[: len(ordered) - len(behind)]][:RETOLD_AT_ONCE]
