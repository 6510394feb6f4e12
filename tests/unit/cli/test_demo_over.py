"""When a demo has nothing more to wait for."""

from __future__ import annotations

import pytest
from tests.unit.cli.demo_scenes import ended, session, waiting

from callfleet.demo.summary import WAITS_FOR_PEOPLE, is_over
from callfleet_core.api.callsession import Reason


def test_a_demo_whose_sessions_are_settled_or_without_money_is_over() -> None:
    assert is_over([ended(0, "a", "qualified"), waiting(1, "b")])


def test_a_demo_that_has_made_no_session_yet_is_not_over() -> None:
    assert not is_over([])


def test_a_call_that_is_not_settled_keeps_the_demo_waiting() -> None:
    unsettled = session(0, "a", state="Completed", result={"disposition": "qualified", "settled": False})
    assert not is_over([unsettled])
    unknown = session(0, "a", state="Failed", reason="DialOutcomeUnknown", result={"settled": False})
    assert is_over([unknown])


@pytest.mark.parametrize("state", ["Admitted", "Dialing", "InProgress", "Pending"])
def test_a_live_or_queued_session_keeps_the_demo_waiting(state: str) -> None:
    assert not is_over([ended(0, "a", "qualified"), session(1, "b", state=state)])


@pytest.mark.parametrize("reason", ["BudgetHeld", "NoCapacity", "Pacing", "NumberBusy", "RetryScheduled"])
def test_what_changes_by_itself_is_waited_for(reason: str) -> None:
    assert not is_over([session(0, "a", state="Pending", reason=reason)])


def test_the_reasons_that_only_people_change_are_reasons_that_exist() -> None:
    assert set(Reason) >= WAITS_FOR_PEOPLE
    assert all(is_over([session(0, "a", state="Pending", reason=reason)]) for reason in WAITS_FOR_PEOPLE)
