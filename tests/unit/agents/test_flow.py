"""The state machine: what is asked next, how often, and how calls end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agents.scripts import plan_of

from callfleet_worker.agents.flow import MAX_REASKS, CallPlan, plan_reply, question_named
from callfleet_worker.agents.interpret import interpret
from callfleet_worker.agents.scoring import lead_of
from callfleet_worker.agents.state import CallState, Reply, Understanding


def start(plan: CallPlan) -> Reply:
    return plan_reply(plan, CallState(), Understanding(kind="start"))


def hear(plan: CallPlan, state: CallState, heard: str) -> Reply:
    question = question_named(plan.script, state.pending)
    return plan_reply(plan, state, interpret(question, state, heard, plan.today))


def talk(plan: CallPlan, *answers: str) -> Reply:
    reply = start(plan)
    for heard in answers:
        assert not reply.hang_up, f"the call ended before {heard!r}"
        reply = hear(plan, reply.state, heard)
    return reply


def test_the_opening_is_followed_by_the_first_question() -> None:
    reply = start(plan_of(name="Maria"))
    assert [line.kind for line in reply.lines] == ["opening", "question"]
    assert reply.lines[0].text.startswith("Hello, Maria, this is Sam")
    assert reply.state.pending == "interested"
    assert start(plan_of()).lines[0].text.startswith("Hello, this is Sam")


def test_answers_choose_the_branch() -> None:
    assert talk(plan_of(), "Yes, I am.", "A house.").state.pending == "bedrooms"
    assert talk(plan_of(), "Yes, I am.", "A condo, I think.").state.pending == "parking"
    assert talk(plan_of(), "No, not anymore.").state.pending == "callback"


def test_a_willing_person_becomes_a_qualified_lead() -> None:
    plan = plan_of()
    reply = talk(
        plan, "Yes, I am.", "A condo.", "Yes, one.", "About four hundred thousand dollars.",
        "In the next three months.", "I will.",
    )  # fmt: skip
    assert reply.hang_up
    assert reply.state.disposition == "qualified"
    lead = lead_of(plan.script, reply.state, plan.today)
    assert lead.qualification_score == Decimal("1.00")
    assert (lead.interest_level, lead.budget_qualified, lead.decision_maker) == ("high", True, True)
    assert lead.timeline == "2026-11-22/2027-02-22"
    assert lead.fields["budget"] == "400000"
    assert lead.fields["property"] == "condo"


def test_who_is_not_interested_is_asked_the_other_question_and_scores_low() -> None:
    plan = plan_of()
    reply = talk(plan, "No.", "Sure, that's fine.")
    assert reply.hang_up
    assert reply.state.disposition == "notInterested"
    lead = lead_of(plan.script, reply.state, plan.today)
    assert lead.qualification_score == Decimal("0.00")
    assert (lead.interest_level, lead.budget_qualified, lead.timeline) == ("low", None, None)


def test_a_required_question_is_asked_again_twice_then_skipped() -> None:
    plan = plan_of()
    reply = start(plan)
    for _ in range(MAX_REASKS):
        reply = hear(plan, reply.state, "The weather is lovely.")
        assert reply.lines[0].kind == "reask"
        assert reply.state.pending == "interested"
    reply = hear(plan, reply.state, "The weather is lovely.")
    assert "interested" in reply.state.skipped
    assert reply.hang_up  # every other question hangs on that answer
    assert reply.state.disposition == "incomplete"


def test_an_optional_question_is_not_asked_again() -> None:
    reply = talk(plan_of(), "Yes.", "A house.", "The weather is lovely.")
    assert reply.state.pending == "budget"


@pytest.mark.parametrize(
    ("heard", "disposition"),
    [
        ("Stop calling me.", "optedOut"),
        ("You have the wrong number.", "wrongPerson"),
        ("You have reached Sam. Please leave a message.", "voicemail"),
        ("I'm driving right now.", "incomplete"),
        ("I have to go.", "incomplete"),
    ],
)
def test_some_things_end_the_call_at_once(heard: str, disposition: str) -> None:
    reply = talk(plan_of(), heard)
    assert reply.hang_up
    assert reply.state.disposition == disposition


def test_who_has_answered_a_question_is_no_machine() -> None:
    assert not talk(plan_of(), "Yes, I am.", "Please leave me a message.").hang_up


def test_hello_after_the_opening_is_no_answer() -> None:
    reply = talk(plan_of(), "Hello?")
    assert reply.state.answers == {}
    assert reply.state.pending == "interested"
    assert reply.lines[-1].text == "Are you still thinking about buying a home this year?"


def test_who_is_this_is_answered_and_the_question_repeated() -> None:
    reply = talk(plan_of(), "Who is this?")
    assert "Harbor Homes" in reply.lines[0].text
    assert reply.lines[-1].kind == "question"
    assert reply.state.asked == {"interested": 1}


def test_silence_is_asked_about_twice_and_then_the_call_ends() -> None:
    plan = plan_of()
    reply = start(plan)
    for _ in range(2):
        reply = plan_reply(plan, reply.state, Understanding(kind="silence"))
        assert not reply.hang_up
    reply = plan_reply(plan, reply.state, Understanding(kind="silence"))
    assert reply.hang_up


def test_the_given_state_is_never_changed() -> None:
    plan = plan_of()
    state = start(plan).state
    before = state.model_copy(deep=True)
    hear(plan, state, "Yes.")
    assert state == before


@given(
    st.lists(
        st.sampled_from(
            [
                "Yes.",
                "No.",
                "Hello?",
                "What?",
                "Who is this?",
                "Hold on.",
                "Blue.",
                "",
                "A house.",
                "Three.",
                "400 thousand",
                "next year",
                "I don't know.",
            ]
        ),
        min_size=60,
        max_size=60,
    )
)
def test_every_conversation_ends(turns: list[str]) -> None:
    plan = plan_of()
    reply = start(plan)
    for heard in turns:
        reply = hear(plan, reply.state, heard)
        if reply.hang_up:
            break
    holding = sum("Hold" in heard for heard in turns)
    assert reply.hang_up or holding > 5
    if reply.hang_up:
        lead = lead_of(plan.script, reply.state, plan.today)
        assert 0 <= lead.qualification_score <= 1
