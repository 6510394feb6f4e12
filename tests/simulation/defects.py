"""Deliberate defects, for tests of the referee only: rules of planners and ledger that are left out or twisted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from unittest import mock

from tests.chaos.model.facts import Attempt, Item, Pace, Place
from tests.chaos.model.money import Said
from tests.chaos.model.protocol import Protocol
from tests.simulation.books import Books
from tests.simulation.database import MemoryLedger

from callfleet_core.api.callsession import Reason
from callfleet_core.ledger import Attempt as AttemptRow
from callfleet_core.ledger import LimitResult, account_key
from callfleet_core.pricing import CostLine
from callfleet_core.windows import TOTAL
from callfleet_operator.plan import admission as admission_plan
from callfleet_operator.plan import hours as hours_plan
from callfleet_operator.plan import pool as pool_plan
from callfleet_operator.plan import session as session_plan
from callfleet_operator.plan.admission import Admit, PendingSession, Snapshot, Wait
from callfleet_operator.plan.hours import Hours
from callfleet_operator.plan.limits import limits_now
from callfleet_operator.reconcile import admission, attempts, pool, session, settlement, snapshot

Put = tuple[Any, str, Any]
_first_opening = hours_plan.next_opening
_plan = admission_plan.plan_admissions
_retry = session_plan.retry_time
_dial_refusal = Protocol._dial_refusal
_not_to_be_called = Protocol.not_to_be_called
_set_limit = MemoryLedger.set_limit
_uncharged = settlement._price


def _money_for_all(_books: Protocol, _item: Item) -> Said | None:
    return None


def _gate_is_open(_books: Protocol, _person: int, _carrier: str) -> str | None:
    return None


def _any_hour(_books: Books, _place: Place) -> bool:
    return True


def _without(name: str, reason: str) -> Callable[..., Any]:
    """The ledger's rule without one of its refusals."""
    rule = getattr(Protocol, name)

    def lenient(books: Protocol, what: Any) -> str | None:
        said: str | None = rule(books, what)
        return None if said == reason else said

    return lenient


def _no_pause(_pace: Any, _now: datetime) -> bool:
    return False


def _always_again(_books: Protocol, _item: Item) -> bool:
    return False


def _at_once(attempt: AttemptRow, terms: Any) -> datetime | None:
    moment = _retry(attempt, terms)
    return None if moment is None else attempt.ended_at


def _openings_a_day_late(hours: Hours, callee: Any, now: datetime) -> datetime | None:
    opening = _first_opening(hours, callee, now)
    return opening if opening is None or opening <= now else opening + timedelta(days=1)


def _never_open(hours: Hours, callee: Any, now: datetime) -> datetime | None:
    opening = _first_opening(hours, callee, now)
    return None if opening is None else max(opening, now + timedelta(seconds=1))


def _too_many(snapshot_: Snapshot, now: datetime) -> list[Admit | Wait]:
    """maxConcurrent and the account's room are forgotten."""
    campaigns = {key: replace(view, max_concurrent=1_000) for key, view in snapshot_.campaigns.items()}
    return _plan(replace(snapshot_, campaigns=campaigns, carrier_room=dict.fromkeys(snapshot_.carrier_room, 99)), now)


def _whatever_is_suspended(snapshot_: Snapshot, now: datetime) -> list[Admit | Wait]:
    campaigns = {key: replace(view, suspended=False) for key, view in snapshot_.campaigns.items()}
    return _plan(replace(snapshot_, campaigns=campaigns), now)


async def _only_the_first_limit(ledger: MemoryLedger, **terms: Any) -> LimitResult:
    return LimitResult.STALE if terms["generation"] > 1 else await _set_limit(ledger, **terms)


def _stated_only(namespace: str, kind: str, name: str, limits: Any, zone: str, now: datetime, *_: Any) -> Any:
    """A Campaign's total, too."""
    windows = limits_now(limits, zone, now).items()
    counted = [window for window, micros in windows if micros is not None or (kind, window) == ("Campaign", TOTAL)]
    return tuple(account_key(namespace, kind, name, window) for window in counted)


def _wrong_reason(session: PendingSession, *_: Any) -> Wait | None:
    """Whoever waits for a retry waits for the one that has passed."""
    past = session.retry_at
    return None if past is None else Wait(session, Reason.RETRY_SCHEDULED, retry_at=past)


async def _free_of_charge(*_: Any) -> list[CostLine]:
    return []


async def _dearer(*args: Any) -> list[CostLine]:
    return [replace(line, amount_micros=line.amount_micros + 1) for line in await _uncharged(*args)]


async def _nothing(*_: Any, **__: Any) -> None:
    return None


def _no_reason(*_: Any) -> None:
    return None


def _taken_twice(_attempts: Any) -> Any:
    return Counter()


def _released_twice(books: Protocol, attempt: Attempt, reason: str) -> None:
    attempt.state, attempt.reason = "revoked", reason
    for _ in range(2):
        books.post(attempt.item.id, attempt.item.accounts, "release", -attempt.item.amount, 0)


def _some_dials_are_refused(books: Protocol, attempt: Attempt) -> str | None:
    """Somebody has just stopped everything, whenever an attempt's id is even."""
    return _dial_refusal(books, attempt) or (None if attempt.item.id.int % 2 else "Stopped")


def _no_pods(*_: Any) -> pool_plan.PoolPlan:
    return pool_plan.PoolPlan(0, (), (), ())


# By name: what is put in whose place.
DEFECTS: Final[dict[str, tuple[Put, ...]]] = {
    "the-ledger-holds-what-no-limit-covers": (
        (Protocol, "refusal", _money_for_all),
        (admission_plan, "_money_wait", _no_reason),
    ),
    "the-gate-lets-everybody-be-called": ((Protocol, "gate", _gate_is_open),),
    "nobody-looks-at-the-clock": ((Books, "hours_are_open", _any_hour), (admission_plan, "_closed", _no_reason)),
    "suspensions-are-forgotten": (
        (Protocol, "_dial_refusal", _without("_dial_refusal", "Suspended")),
        (Protocol, "not_to_be_called", _without("not_to_be_called", "Suspended")),
        (attempts, "_revocation", _no_reason),
        (admission, "plan_admissions", _whatever_is_suspended),
    ),
    "begin-dial-keeps-no-pace": ((Pace, "makes_wait", _no_pause),),
    "whoever-was-reached-is-called-again": (
        (Protocol, "_is_called", _always_again),
        (session_plan, "_RETRYABLE", {"busy", "no-answer", "notPlaced", "completed"}),
    ),
    "retries-come-at-once": ((snapshot, "retry_time", _at_once), (session_plan, "retry_time", _at_once)),
    "openings-are-a-day-late": ((admission_plan, "next_opening", _openings_a_day_late),),
    "nobodys-hours-begin": ((admission_plan, "next_opening", _never_open),),
    "maxconcurrent-is-forgotten": ((admission, "plan_admissions", _too_many),),
    "what-is-past-is-waited-for": ((admission_plan, "_unfit", _wrong_reason),),
    "answered-calls-cost-nothing": ((settlement, "_price", _free_of_charge),),
    "a-cost-is-a-micro-too-high": ((settlement, "_price", _dearer),),
    "missing-evidence-is-not-asked-for": ((attempts, "_tend_live", _nothing),),
    "limits-are-never-changed": ((MemoryLedger, "set_limit", _only_the_first_limit),),
    "only-stated-limits-count": ((snapshot, "account_keys", _stated_only),),
    "slots-are-given-twice": ((snapshot, "open_by_pod", _taken_twice),),
    "what-is-released-returns-twice": ((Protocol, "_release", _released_twice),),
    "nobody-looks-at-a-refused-grant": (
        (Protocol, "_dial_refusal", _some_dials_are_refused),
        (session, "GRANTED_EVERY_S", 1e6),
        (admission, "GRANTED_EVERY_S", 1e6),
    ),
    "no-worker-is-made": ((pool, "plan_pool", _no_pods),),
}


@contextmanager
def put(name: str) -> Iterator[None]:
    """A defect, for as long as it lasts."""
    patches = [mock.patch.object(target, attribute, value) for target, attribute, value in DEFECTS[name]]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
