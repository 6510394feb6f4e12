"""Whether a database is the one that was trusted, and whose a forgotten call was: decided without either."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from callfleet_core.recovery import DatabaseState, RunToClose
from callfleet_core.runs import Run
from callfleet_operator.carriercall import CarrierCall
from callfleet_operator.objects import Campaign, Session
from callfleet_operator.plan.recovery import (
    Booking,
    SessionIndex,
    Witness,
    callers_of,
    doubt,
    is_due,
    lost_call,
    lost_id,
    plan_owner,
    run_of,
    told,
)

NOW = datetime(2026, 11, 22, 14, tzinfo=UTC)
TOKEN, EARLIER = uuid4(), uuid4()
STATE = DatabaseState("7/00000001/5", "7/00000001/5", TOKEN, EARLIER, None, None, None, 0, None, None)
FROM, TO, SID = "+15550100199", "+15550100001", "CA" + "1" * 32
CALL = CarrierCall(SID, "completed", 70, NOW, ended=NOW + timedelta(seconds=80), to=TO, from_=FROM)


def witness(token: UUID = TOKEN) -> Witness:
    return Witness(token, 3, NOW)


def test_a_database_that_was_never_looked_at_is_trusted_only_where_nobody_knows_of_another() -> None:
    new = replace(STATE, trusted_identity=None, witness=None, previous_witness=None)
    assert doubt(new, None) is None
    assert "does not know the witness" in str(doubt(new, witness()))


@pytest.mark.parametrize(
    ("identity", "why"),
    [("8/00000001/5", "another server"), ("7/00000002/5", "another timeline"), ("7/00000001/6", "made anew")],
)
def test_another_server_timeline_or_database_is_doubted_though_it_has_the_token(identity: str, why: str) -> None:
    assert why in str(doubt(replace(STATE, identity=identity), witness()))


def test_only_the_newest_two_tokens_are_those_of_the_trusted_state() -> None:
    assert doubt(STATE, witness()) is None
    assert doubt(STATE, witness(EARLIER)) is None  # the witness could not be written after the last beat
    assert "restored from a backup" in str(doubt(STATE, witness(uuid4())))
    assert "is gone" in str(doubt(STATE, None))


def test_lists_are_read_at_once_and_then_again_after_the_carriers_delay() -> None:
    assert not is_due(STATE, 60, NOW)
    closed = replace(STATE, recovering_since=NOW, recovering_from=NOW)
    assert is_due(closed, 60, NOW)
    read = replace(closed, recovery_pass_at=NOW)
    assert not is_due(read, 60, NOW + timedelta(seconds=59))
    assert is_due(read, 60, NOW + timedelta(seconds=60))


def test_a_campaign_says_that_the_ledger_is_being_rebuilt_and_what_keeps_it() -> None:
    assert told(STATE) is None
    closed = replace(STATE, recovering_since=NOW, recovering_from=NOW, recovery_problem="the carrier does not answer")
    text = str(told(closed))
    assert text.startswith("Stopped: ")
    assert text.endswith("since 2026-11-22 14:00:00 UTC; the carrier does not answer")


def campaign(name: str, numbers: tuple[str, ...] = (FROM,), namespace: str = "sales") -> Campaign:
    return Campaign.of({
        "metadata": {"name": name, "namespace": namespace, "uid": name, "generation": 1, "resourceVersion": "1",
                     "creationTimestamp": "2026-11-22T09:00:00Z"},
        "spec": {
            "contacts": {"listRef": {"name": "people"}},
            "call": {"from": list(numbers), "maxDurationSeconds": 90},
            "agent": {"persona": "Robin", "llm": {"model": "m"}, "opening": "Hello.", "closing": "Goodbye.",
                      "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you?"]}]},
        },
    })  # fmt: skip


def session(owner: Campaign, contact: UUID, **status: Any) -> Session:
    return Session.of({
        "metadata": {"name": f"{owner.meta.name}-1-x", "namespace": owner.meta.namespace, "uid": str(uuid4()),
                     "resourceVersion": "1", "creationTimestamp": "2026-11-22T09:00:00Z"},
        "spec": {"campaign": owner.meta.name, "runID": "1", "contactID": str(contact), "maxDurationSeconds": 60},
        "status": status,
    })  # fmt: skip


def person(namespace: str) -> UUID:
    return uuid5(UUID(int=0), namespace)


SPRING, SUMMER = campaign("spring"), campaign("summer")
ATTEMPT = {"id": str(uuid4()), "number": 1, "held": "0.036"}


def test_only_campaigns_that_call_from_the_number_may_have_called() -> None:
    other = campaign("autumn", ("+15550100198",))
    numbers = {item.meta.uid: item.spec.call.from_ for item in (SUMMER, other, SPRING)}
    assert callers_of([SUMMER, other, SPRING], numbers, CALL) == [SPRING, SUMMER]


def test_a_session_that_names_the_call_owns_it_and_nothing_else_is_closed() -> None:
    named = session(SPRING, person("sales"), attempt=ATTEMPT, callSID=SID, state="InProgress")
    found = SessionIndex([named]).naming(CALL, [SPRING, SUMMER], person)
    owner = plan_owner(CALL, [SPRING, SUMMER], found, set())
    assert (str(owner.attempt_id), owner.payers, owner.closes) == (ATTEMPT["id"], (SPRING,), ())
    assert (owner.namespace, owner.campaign_name, owner.time_limit_s) == ("sales", "spring", 60)


def test_a_session_of_somebody_else_that_names_the_call_is_not_believed() -> None:
    """A worker writes the SID: one that wrote another's would let that one's person be called again, and not pay."""
    other = session(campaign("their", namespace="banks"), uuid4(), attempt=ATTEMPT, callSID=SID, state="InProgress")
    assert SessionIndex([other]).naming(CALL, [SPRING], person) is None
    own = session(SPRING, person("sales"), attempt=ATTEMPT, callSID=SID, state="InProgress")
    same_space = session(SUMMER, uuid4(), attempt=ATTEMPT, callSID=SID, state="InProgress")
    for order in ([own, other, same_space], [same_space, other, own]):
        assert SessionIndex(order).naming(CALL, [SPRING], person) is own


def test_where_the_sessions_campaign_calls_with_this_number_no_more_those_that_do_call_the_person_no_more() -> None:
    theirs = campaign("their", namespace="banks")
    named = session(theirs, person("banks"), attempt=ATTEMPT, callSID=SID)
    assert SessionIndex([named]).naming(CALL, [SPRING, SUMMER], person) is named
    owner = plan_owner(CALL, [SPRING, SUMMER], named, {run_of(SUMMER)}, theirs)
    assert (str(owner.attempt_id), owner.campaign_name) == (ATTEMPT["id"], "their")
    assert (owner.payers, owner.closes) == ((theirs, SUMMER), (SUMMER,))
    on_no_list = plan_owner(CALL, [SPRING, SUMMER], named, set(), theirs)
    assert (on_no_list.payers, on_no_list.closes) == ((theirs,), (SPRING, SUMMER))
    alone = plan_owner(CALL, [], named, set())
    assert (alone.payers, alone.closes) == ((), ())


@pytest.mark.parametrize(("own_s", "limit_s"), [(60, 90), (900, 900)])
def test_a_call_may_have_been_granted_under_its_campaigns_limit_of_then_or_of_now(own_s: int, limit_s: int) -> None:
    named = session(SPRING, person("sales"), attempt=ATTEMPT, callSID=SID)
    spec = named.spec.model_copy(update={"campaign_uid": SPRING.meta.uid, "max_duration_seconds": own_s})
    assert plan_owner(CALL, [SPRING], replace(named, spec=spec), set()).time_limit_s == limit_s


def test_a_session_that_was_dialling_owns_its_persons_call() -> None:
    dialling = session(SPRING, person("sales"), attempt=ATTEMPT, state="Dialing")
    index = SessionIndex([dialling, session(SUMMER, person("other"), attempt=ATTEMPT, state="Dialing")])
    assert index.naming(CALL, [SPRING, SUMMER], person) is dialling
    assert index.naming(CALL, [SUMMER], person) is None


def test_without_a_session_all_that_list_the_person_pay_and_call_them_no_more() -> None:
    listed = plan_owner(CALL, [SPRING, SUMMER], None, {run_of(SUMMER), Run("sales", "gone", "1")})
    assert (listed.attempt_id, listed.campaign, listed.payers) == (lost_id(CALL), SUMMER, (SUMMER,))
    assert listed.closes == (SUMMER,)
    nowhere = plan_owner(CALL, [SPRING, SUMMER], None, set())
    assert nowhere.payers == nowhere.closes == (SPRING, SUMMER)


def test_a_call_that_no_campaign_may_have_placed_belongs_to_nobody() -> None:
    owner = plan_owner(CALL, [], None, set())
    assert (owner.namespace, owner.campaign_name, owner.run_id, owner.payers) == ("", "", "", ())
    assert owner.time_limit_s == 14_400


@pytest.mark.parametrize(
    ("status", "final", "disposition"),
    [("completed", True, "answered"), ("no-answer", True, "noAnswer"), ("in-progress", False, "unknown")],
)
def test_what_is_booked_says_whether_the_call_is_over(status: str, final: bool, disposition: str) -> None:
    call = replace(CALL, status=status, ended=None)
    owner = plan_owner(call, [SPRING], None, set())
    closes = (RunToClose(*run_of(SPRING), person("sales")),)
    booked = lost_call(call, owner, Booking("AC", "hash", person("sales"), "USD", 7, ("a",), closes, NOW))
    assert (booked.final, booked.disposition, booked.ended_at) == (final, disposition, NOW if final else None)
    assert (booked.run_id, booked.time_limit_s, booked.closes) == ("1", 90, closes)
    assert TO not in repr(booked) + repr(call)
