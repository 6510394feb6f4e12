"""From answers to a lead: the script's weights, nothing else. Pure."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from callfleet_core.records import LeadFields
from callfleet_core.script import CallScript, Question, QuestionType
from callfleet_worker.agents.state import CallState, Disposition

QUALIFIED_FROM = Decimal("0.50")
HIGH_INTEREST_FROM = Decimal("0.70")


def lead_of(script: CallScript, state: CallState, today: date) -> LeadFields:
    """Score (weights of qualifying answers over all weights that applied) and standard properties of the lead."""
    score = score_of(script, state, today)
    by_lead = {
        question.lead: question for question in script.questions if question.lead and question.name in state.answers
    }
    interest = _value(by_lead.get("interest"), state)
    budget = by_lead.get("budget")
    decision = _value(by_lead.get("decisionMaker"), state)
    return LeadFields(
        qualification_score=score,
        interest_level=_interest_level(interest, score),
        budget_qualified=qualifies(budget, state.answers[budget.name].value, today) if budget else None,
        timeline=_value(by_lead.get("timeline"), state),
        decision_maker=None if decision is None else decision == "yes",
        fields={name: answer.value for name, answer in state.answers.items()},
    )


def score_of(script: CallScript, state: CallState, today: date) -> Decimal:
    """Between 0.00 and 1.00; questions that an answer ruled out don't count, unanswered ones count as missed."""
    total = won = 0
    for question in script.questions:
        if question.qualify is None or not _counts(script, question, state):
            continue
        total += question.qualify.weight
        answer = state.answers.get(question.name)
        if answer is not None and qualifies(question, answer.value, today):
            won += question.qualify.weight
    if total == 0:
        return Decimal("0.00")
    return (Decimal(won) / Decimal(total)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def qualifies(question: Question, value: str, today: date) -> bool:
    """Whether a canonical answer meets every condition of its question; no conditions are met by any answer."""
    rule = question.qualify
    if rule is None:
        return True
    if rule.is_ is not None and value not in rule.is_:
        return False
    if question.type in (QuestionType.NUMBER, QuestionType.MONEY):
        amount = Decimal(value)
        if rule.min is not None and amount < Decimal(rule.min):
            return False
        if rule.max is not None and amount > Decimal(rule.max):
            return False
    if question.type is QuestionType.DATE_RANGE and rule.within_days is not None:
        return (date.fromisoformat(value.split("/")[0]) - today).days <= rule.within_days
    return True


def final_disposition(script: CallScript, state: CallState, today: date) -> Disposition:
    """How a call that went through all its questions counts."""
    for question in script.questions:
        answer = state.answers.get(question.name)
        if question.lead == "interest" and answer is not None and answer.value == "no":
            return "notInterested"
    if not state.answers:
        return "incomplete"
    score = score_of(script, state, today)
    return "qualified" if score >= QUALIFIED_FROM else "notQualified"


def _counts(script: CallScript, question: Question, state: CallState) -> bool:
    """Whether no earlier answer has ruled this question out, directly or through the question it hangs on."""
    if question.when is None:
        return True
    needed = question.when
    earlier = state.answers.get(needed.question)
    if earlier is not None:
        return earlier.value in needed.is_
    parents = [other for other in script.questions if other.name == needed.question and other is not question]
    return all(_counts(script, parent, state) for parent in parents)


def _value(question: Question | None, state: CallState) -> str | None:
    return None if question is None else state.answers[question.name].value


def _interest_level(interest: str | None, score: Decimal) -> str | None:
    if interest is None:
        return None
    if interest != "yes":
        return "low"
    return "high" if score >= HIGH_INTEREST_FROM else "medium"
