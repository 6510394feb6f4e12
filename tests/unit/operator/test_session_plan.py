"""A session's status follows its attempt's row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from callfleet_core.api.callsession import Reason
from callfleet_core.api.campaign import Attempts
from callfleet_core.ledger import Attempt
from callfleet_core.runs import RunContact
from callfleet_operator.plan.session import admitted_status, pending_status, plan_closed, plan_session, retry_time

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
ID = UUID("0192f0c5-0000-7000-8000-000000000001")
ONCE, THRICE = Attempts(max=1), Attempts(max=3)
ATTEMPT = Attempt(
    id=ID, state="granted", number=1, namespace="sales", campaign="spring", run_id="1", contact_id=ID,
    session_name="spring-1-x", session_uid="u", account_sid="AC", currency="USD", hold_micros=36_000, time_limit_s=120,
    ring_timeout_s=20, max_queue_s=30, granted_pod_uid="pod", granted_at=NOW, expires_at=NOW, begun_at=None,
    placed_at=None, answered_at=None, ended_at=None, cancel_requested_at=None, call_sid=None, reason=None,
    end_status=None, duration_s=None, actual_micros=None, lookups_empty=0, last_lookup_at=None,
    disposition=None, uncovered=False, counts=True, tries=1, not_placed=0,
)  # fmt: skip
ADMITTED = admitted_status({}, {"id": str(ID), "number": 1, "held": "0.036"}, "pool-0", str(ID), NOW)


def settled(end_status: str, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "state": "settled",
        "end_status": end_status,
        "ended_at": NOW,
        "actual_micros": 0,
        **changes,
    }
    return replace(ATTEMPT, **values)


def test_a_granted_attempt_leaves_the_binding_as_it_is() -> None:
    assert plan_session(ADMITTED, ATTEMPT, ONCE, NOW) is None


def test_an_admitted_session_without_an_attempt_is_pending_again() -> None:
    status = plan_session(ADMITTED, None, ONCE, NOW)
    assert status is not None
    assert (status["state"], status["worker"], status["attempt"]) == ("Pending", None, None)


def test_the_worker_has_time_to_say_that_it_dials() -> None:
    dialing = replace(ATTEMPT, state="dialing", begun_at=NOW - timedelta(seconds=2))
    assert plan_session(ADMITTED, dialing, ONCE, NOW) is None
    late = replace(dialing, begun_at=NOW - timedelta(seconds=6))
    status = plan_session(ADMITTED, late, ONCE, NOW)
    assert status is not None
    assert status["state"] == "Dialing"


def test_an_answered_call_is_in_progress_even_when_its_worker_is_silent() -> None:
    live = replace(ATTEMPT, state="placed", begun_at=NOW - timedelta(seconds=9), answered_at=NOW, call_sid="CA1")
    status = plan_session(ADMITTED, live, ONCE, NOW)
    assert status is not None
    assert (status["state"], status["callSID"]) == ("InProgress", "CA1")


@pytest.mark.parametrize(
    ("end_status", "state", "disposition"),
    [
        ("completed", "Completed", "answered"),
        ("busy", "Completed", "busy"),
        ("no-answer", "Completed", "noAnswer"),
        ("failed", "Failed", "failed"),
        ("notPlaced", "Failed", "failed"),
        ("canceled", "Canceled", "canceled"),
    ],
)
def test_the_carriers_word_ends_the_session(end_status: str, state: str, disposition: str) -> None:
    status = plan_session(ADMITTED, settled(end_status), ONCE, NOW)
    assert status is not None
    assert (status["state"], status["result"]["disposition"]) == (state, disposition)
    assert status["result"]["settled"] is True
    assert plan_session(status, settled(end_status), ONCE, NOW) is None  # and stays so


def test_an_ended_attempt_waits_for_its_settlement() -> None:
    assert plan_session(ADMITTED, settled("completed", state="ended"), ONCE, NOW) is None


def test_what_the_agents_found_is_the_finer_disposition() -> None:
    status = plan_session(ADMITTED, settled("completed", disposition="qualified", actual_micros=36_000), ONCE, NOW)
    assert status is not None
    assert (status["result"]["disposition"], status["result"]["cost"]) == ("qualified", "0.036")


def test_an_unknown_dial_fails_the_session_while_its_money_stays_held() -> None:
    status = plan_session(ADMITTED, settled("unresolved", state="ended", actual_micros=None), THRICE, NOW)
    assert status is not None
    assert (status["state"], status["reason"]) == ("Failed", Reason.DIAL_OUTCOME_UNKNOWN)
    assert status["result"]["settled"] is False


@pytest.mark.parametrize(("end_status", "minutes"), [("busy", 15), ("no-answer", 240)])
def test_busy_and_no_answer_are_tried_again_later(end_status: str, minutes: int) -> None:
    status = plan_session(ADMITTED, settled(end_status), THRICE, NOW)
    assert status is not None
    assert (status["state"], status["reason"]) == ("Pending", "RetryScheduled")
    assert status["retryAt"] == (NOW + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    later = NOW + timedelta(minutes=minutes)
    assert plan_session(status, settled(end_status), THRICE, later) is None
    waiting = pending_status(status, Reason.NO_CAPACITY, later)
    assert plan_session(waiting, settled(end_status), THRICE, later) is None


def test_what_never_reached_the_carrier_uses_up_no_attempt() -> None:
    pauses = []
    for failures in (1, 2, 3, 19):
        attempt = settled("notPlaced", counts=False, tries=0, not_placed=failures)
        status = plan_session(ADMITTED, attempt, ONCE, NOW)
        assert status is not None
        assert status["reason"] == "RetryScheduled"
        due = retry_time(attempt, ONCE)
        assert due is not None
        pauses.append((due - NOW).total_seconds())
    assert pauses == [15, 30, 60, 1800]
    given_up = plan_session(ADMITTED, settled("notPlaced", counts=False, tries=0, not_placed=20), ONCE, NOW)
    assert given_up is not None
    assert given_up["state"] == "Failed"


def test_a_number_that_the_carrier_refuses_is_not_tried_again() -> None:
    status = plan_session(ADMITTED, settled("notPlaced", counts=True), THRICE, NOW)
    assert status is not None
    assert status["state"] == "Failed"


@pytest.mark.parametrize("why", [{"cancel": True}, {"late": True}])
def test_an_end_that_was_told_stays_when_more_attempts_are_allowed_and_the_session_goes(why: dict[str, bool]) -> None:
    done = plan_session(ADMITTED, settled("busy"), ONCE, NOW)
    assert done is not None
    assert done["state"] == "Completed"
    assert plan_session(done, settled("busy"), THRICE, NOW, **why) is None


def test_an_end_that_was_told_is_never_taken_back() -> None:
    done = plan_session(ADMITTED, settled("busy"), ONCE, NOW)
    assert done is not None
    assert plan_session(done, settled("busy"), THRICE, NOW) is None  # attempts.max was raised afterwards
    assert plan_session(done, replace(ATTEMPT, state="placed", begun_at=NOW - timedelta(hours=1)), ONCE, NOW) is None


def test_a_session_for_somebody_who_is_done_ends_as_their_call_did() -> None:
    known = RunContact(ID, 0, "spring-1-x", "Completed", "qualified")
    status = plan_closed({}, None, ONCE, known, NOW, 1)
    assert status is not None
    assert (status["state"], status["result"]["disposition"]) == ("Completed", "qualified")
    unlisted = plan_closed({}, None, ONCE, None, NOW, 1)
    assert unlisted is not None
    assert unlisted["state"] == "Canceled"


def test_a_session_whose_last_attempt_could_be_repeated_ends_when_its_person_is_done_otherwise() -> None:
    """Found by the state machine: it went back to Pending for ever, since its row spoke of another attempt."""
    known = RunContact(ID, 0, "spring-1-x", "Canceled", "canceled")
    ended = plan_closed({}, settled("busy"), THRICE, known, NOW, 1)
    assert ended is not None
    assert ended["state"] == "Canceled"
    assert plan_closed({}, settled("busy"), ONCE, known, NOW, 1) is None  # its row says how it ended
    assert plan_closed({}, ATTEMPT, THRICE, known, NOW, 1) is None


def test_the_last_attempt_is_not_tried_again() -> None:
    status = plan_session(ADMITTED, settled("busy", number=3, tries=3), THRICE, NOW)
    assert status is not None
    assert status["state"] == "Completed"


def test_why_a_pending_session_waits_is_left_to_the_admission() -> None:
    suspended = pending_status({}, Reason.SUSPENDED, NOW)
    assert plan_session(suspended, settled("busy"), THRICE, NOW) is None
    assert plan_session({}, settled("busy"), THRICE, NOW) is None


def test_a_recreated_session_shows_how_its_call_ended() -> None:
    status = plan_session({}, settled("completed"), ONCE, NOW)
    assert status is not None
    assert status["state"] == "Completed"


def test_conditions_keep_their_time_while_nothing_changes() -> None:
    first = pending_status({}, Reason.NO_CAPACITY, NOW)
    second = pending_status(first, Reason.BUDGET_EXHAUSTED, NOW + timedelta(minutes=5), shortfall_micros=1)
    assert second["conditions"][0]["lastTransitionTime"] == first["conditions"][0]["lastTransitionTime"]


def test_a_canceled_session_that_was_never_called_is_canceled_at_once() -> None:
    status = plan_session({}, None, ONCE, NOW, cancel=True)
    assert status is not None
    assert (status["state"], status["result"]["disposition"]) == ("Canceled", "canceled")
    assert plan_session(status, None, ONCE, NOW, cancel=True) is None


def test_a_session_that_is_too_late_is_canceled_and_a_live_call_goes_on() -> None:
    status = plan_session({}, None, ONCE, NOW, late=True)
    assert status is not None
    assert (status["state"], status["conditions"][-1]["message"]) == ("Canceled", "its notAfter has passed")
    live = replace(ATTEMPT, state="placed", begun_at=NOW, answered_at=NOW)
    assert plan_session({**ADMITTED, "state": "InProgress"}, live, ONCE, NOW, late=True) is None
    between = plan_session(ADMITTED, settled("busy", tries=1), THRICE, NOW, late=True)
    assert between is not None
    assert between["state"] == "Canceled"


@pytest.mark.parametrize("state", ["granted", "dialing", "placed", "ended"])
def test_a_canceled_session_is_canceled_only_after_its_attempt_is_over(state: str) -> None:
    attempt = replace(ATTEMPT, state=state, cancel_requested_at=NOW, begun_at=NOW, end_status="canceled")
    status = plan_session(ADMITTED, attempt, ONCE, NOW, cancel=True)
    assert status is None or status["state"] not in {"Canceled"}


@pytest.mark.parametrize("end_status", ["canceled", "completed"])
def test_a_call_that_was_ended_by_us_is_canceled(end_status: str) -> None:
    attempt = settled(end_status, cancel_requested_at=NOW)
    status = plan_session(ADMITTED, attempt, ONCE, NOW, cancel=True)
    assert status is not None
    assert status["state"] == "Canceled"


def test_a_canceled_session_is_not_tried_again() -> None:
    status = plan_session(ADMITTED, settled("busy"), THRICE, NOW, cancel=True)
    assert status is not None
    assert status["state"] == "Canceled"


def test_an_ended_session_stays_ended_when_it_is_canceled_late() -> None:
    done = plan_session(ADMITTED, settled("completed"), ONCE, NOW)
    assert done is not None
    assert plan_session(done, settled("completed"), ONCE, NOW, cancel=True) is None


def test_an_attempt_that_is_revoked_after_a_retry_came_due_waits_for_no_time_that_has_passed() -> None:
    after = settled("busy", ended_at=NOW - timedelta(days=1), tries=1)
    status = plan_session(ADMITTED, after, THRICE, NOW)
    assert status is not None
    assert (status["state"], status["reason"], status["retryAt"]) == ("Pending", None, None)
