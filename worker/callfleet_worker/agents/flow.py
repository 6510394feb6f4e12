"""The state machine over the script: pure, no clock, no model. It decides what is asked next and when the call ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from callfleet_core.script import CallScript, Question
from callfleet_worker.agents import phrases
from callfleet_worker.agents.phrases import Phrasebook
from callfleet_worker.agents.scoring import final_disposition
from callfleet_worker.agents.state import CallState, Disposition, Line, Reply, Understanding
from callfleet_worker.answers.intents import Intent

MAX_REASKS = 2
MAX_SILENCES = 2
MAX_SAME_INTENT = 2
_ENDS: dict[Intent, tuple[Disposition, str]] = {
    Intent.VOICEMAIL: ("voicemail", phrases.GOODBYE),
    Intent.OPT_OUT: ("optedOut", phrases.OPTED_OUT),
    Intent.WRONG_PERSON: ("wrongPerson", phrases.WRONG_PERSON),
    Intent.NOT_INTERESTED: ("notInterested", phrases.NOT_INTERESTED),
    Intent.BUSY: ("incomplete", phrases.BUSY),
    Intent.GOODBYE: ("incomplete", phrases.GOODBYE),
}


@dataclass(frozen=True)
class CallPlan:
    """What does not change during a call: its script, its wording, and its day in the campaign's time zone."""

    script: CallScript
    book: Phrasebook
    today: date


def next_question(script: CallScript, state: CallState) -> Question | None:
    """The first question that is neither answered, skipped nor ruled out by an earlier answer."""
    for question in script.questions:
        if question.name in state.answers or question.name in state.skipped:
            continue
        if applies(question, state):
            return question
    return None


def applies(question: Question, state: CallState) -> bool:
    """Whether the answers so far lead to this question."""
    if question.when is None:
        return True
    earlier = state.answers.get(question.when.question)
    return earlier is not None and earlier.value in question.when.is_


def question_named(script: CallScript, name: str | None) -> Question | None:
    """The script's question of that name."""
    return next((question for question in script.questions if question.name == name), None)


def plan_reply(plan: CallPlan, state: CallState, meant: Understanding) -> Reply:
    """What to say to this, and the state that follows."""
    after = state.model_copy(deep=True)
    if meant.kind != "silence":
        after.silences = 0
    match meant.kind:
        case "start":
            return _ask_next(plan, after, [Line(text=plan.book.opening, kind="opening", agent="greeter")])
        case "answer":
            return _take_answer(plan, after, meant)
        case "intent":
            return _take_intent(plan, after, meant)
        case "timeUp":
            return _end(after, "incomplete", plan.book.closing)
        case "silence":
            return _take_silence(plan, after)
        case "unclear":
            return _ask_again_or_skip(plan, after)


def _take_answer(plan: CallPlan, after: CallState, meant: Understanding) -> Reply:
    if meant.answer is None or meant.question is None:
        raise ValueError("an answer needs its question and its value")
    after.answers[meant.question] = meant.answer
    ack = plan.book.acknowledge(meant.answer.value, after.acknowledged)
    after.acknowledged += 1
    return _ask_next(plan, after, [Line(text=ack, kind="ack", agent="qualifier")])


def _take_intent(plan: CallPlan, after: CallState, meant: Understanding) -> Reply:
    intent = meant.intent
    if intent is None:
        raise ValueError("an intent turn needs its intent")
    if intent in _ENDS:
        disposition, goodbye = _ENDS[intent]
        return _end(after, disposition, goodbye)
    count = after.intents[intent.value] = after.intents.get(intent.value, 0) + 1
    if intent is Intent.HOLD_ON:
        return Reply(lines=[Line(text=phrases.TAKE_YOUR_TIME, kind="note", agent="qualifier")], state=after)
    if count > MAX_SAME_INTENT * max(1, len(after.asked)):
        return _ask_again_or_skip(plan, after)
    lead_in = {
        Intent.WHO: [Line(text=plan.book.opening, kind="note", agent="greeter")],
        Intent.REPEAT: [Line(text=phrases.LET_ME_REPEAT, kind="note", agent="qualifier")],
    }.get(intent, [])
    return _repeat_question(plan, after, lead_in)


def _take_silence(plan: CallPlan, after: CallState) -> Reply:
    after.silences += 1
    if after.silences > MAX_SILENCES:
        return _end(after, "incomplete", phrases.GOODBYE)
    return _repeat_question(plan, after, [Line(text=phrases.STILL_THERE, kind="note", agent="qualifier")])


def _repeat_question(plan: CallPlan, after: CallState, lead_in: list[Line]) -> Reply:
    question = question_named(plan.script, after.pending)
    if question is None:
        return _ask_next(plan, after, lead_in)
    return Reply(lines=[*lead_in, Line(text=plan.book.ask(question), kind="question", agent="qualifier")], state=after)


def _ask_again_or_skip(plan: CallPlan, after: CallState) -> Reply:
    question = question_named(plan.script, after.pending)
    if question is None:
        return _ask_next(plan, after, [])
    asked = after.asked.get(question.name, 0)
    if question.required and asked <= MAX_REASKS:
        after.asked[question.name] = asked + 1
        text = plan.book.ask_again(question, asked)
        return Reply(lines=[Line(text=text, kind="reask", agent="qualifier")], state=after)
    after.skipped.append(question.name)
    return _ask_next(plan, after, [Line(text=phrases.MOVE_ON, kind="note", agent="qualifier")])


def _ask_next(plan: CallPlan, after: CallState, lead_in: list[Line]) -> Reply:
    question = next_question(plan.script, after)
    if question is None:
        ended = _end(after, final_disposition(plan.script, after, plan.today), plan.book.closing)
        return ended.model_copy(update={"lines": [*lead_in, *ended.lines]})
    after.pending = question.name
    after.asked[question.name] = after.asked.get(question.name, 0) + 1
    line = Line(text=plan.book.ask(question), kind="question", agent="qualifier")
    return Reply(lines=[*lead_in, line], state=after)


def _end(after: CallState, disposition: Disposition, goodbye: str) -> Reply:
    after.pending = None
    after.disposition = disposition
    return Reply(lines=[Line(text=goodbye, kind="closing", agent="closer")], state=after, hang_up=True)
