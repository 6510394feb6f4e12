"""Who keeps those behind them from having a session, and who does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.unit.operator.test_campaign_plan import BODY, NOW, view_of

from callfleet_core.runs import RunCounts
from callfleet_operator.objects import Campaign, Session, format_time
from callfleet_operator.plan.campaign import plan_campaign_status
from callfleet_operator.plan.lookahead import ASIDE_AT_MOST, SOON, plan_room

# lookAhead is 200.
SPRING = Campaign.of(BODY)
OFFICE = [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "from": "09:00", "to": "18:00"}]
HOURS = timedelta(hours=4)


def waiting(
    reason: str, count: int, retry: timedelta | None = None, state: str = "Pending", run: str = "1"
) -> list[Session]:
    meta = BODY["metadata"] | {"name": f"spring-{reason}"}
    status = {"state": state, "reason": reason, "retryAt": None if retry is None else format_time(NOW + retry)}
    spec = {"campaign": "spring", "runID": run, "contactID": str(UUID(int=7))}
    return [Session.of({"metadata": meta, "spec": spec, "status": status})] * count


def scheduled(zone: str, **schedule: Any) -> Campaign:
    schedule = {"zone": zone, "windows": OFFICE, **schedule}
    return Campaign.of(BODY | {"spec": {**BODY["spec"], "timeZone": "Europe/Berlin", "schedule": schedule}})


def test_who_may_not_be_called_takes_nobodys_place_up_to_a_bound() -> None:
    both = [*waiting("NoConsent", 200), *waiting("DoNotCall", 300)]
    assert plan_room(SPRING, both, NOW) == 200
    assert plan_room(SPRING, [*both, *waiting("BudgetHeld", 150)], NOW) == 50
    assert plan_room(SPRING, waiting("NoConsent", ASIDE_AT_MOST + 150), NOW) == 50


@pytest.mark.parametrize(
    ("reason", "retry", "room"),
    [
        ("NoPrice", None, 200),
        ("PerCallLimit", None, 200),
        ("RetryScheduled", HOURS, 200),
        ("RetryScheduled", SOON, 0),
        ("NumberBusy", None, 0),
        ("BudgetExhausted", HOURS, 0),
        ("NoCapacity", None, 0),
    ],
)
def test_who_waits_for_something_of_their_own_for_long_takes_nobodys_place(
    reason: str, retry: timedelta | None, room: int
) -> None:
    assert plan_room(SPRING, waiting(reason, 200, retry), NOW) == room


@pytest.mark.parametrize(
    ("campaign", "retry", "room"),
    [
        (scheduled("Callee"), HOURS, 200),
        (scheduled("Callee"), SOON, 0),
        (scheduled("Callee"), None, 200),  # a number that tells no zone
        # Those behind them could not be called either.
        (scheduled("Campaign"), HOURS, 0),
        (scheduled("Callee", notAfter=format_time(NOW)), None, 0),
    ],
)
def test_whose_hours_are_closed_takes_nobodys_place_whose_hours_may_be_open(
    campaign: Campaign, retry: timedelta | None, room: int
) -> None:
    assert plan_room(campaign, waiting("OutsideCallingHours", 200, retry), NOW) == room


def test_sessions_of_another_run_take_nobodys_place() -> None:
    assert plan_room(SPRING, waiting("Suspended", 300, run="0"), NOW) == 200


def test_whoever_is_called_takes_a_place() -> None:
    assert plan_room(SPRING, waiting("", 200, state="InProgress"), NOW) == 0


@pytest.mark.parametrize(("total", "says_so"), [(5_000, True), (ASIDE_AT_MOST + 1, False)])
def test_a_campaign_says_that_too_many_cannot_be_called(total: int, says_so: bool) -> None:
    view = replace(view_of(RunCounts(total, 0)), sessions=waiting("NoConsent", ASIDE_AT_MOST + 1))
    planned = plan_campaign_status(view, NOW)
    assert planned is not None
    assert ("1001 people wait for something of their own: beyond 1000" in planned["summary"]) is says_so
    assert planned["summary"].endswith("NoConsent: 1001 wait")
