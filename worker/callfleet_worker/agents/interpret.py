"""Grammar first: what one turn of the person meant, decided without a model; "unclear" is where a model may help."""

from __future__ import annotations

from datetime import date

from callfleet_core.script import Question, QuestionType
from callfleet_worker.agents.state import CallState, FieldAnswer, Understanding
from callfleet_worker.answers.intents import Intent, find_intent
from callfleet_worker.answers.parse import parse_answer
from callfleet_worker.answers.words import Answer, is_unsure, words_of

_ALWAYS = frozenset({Intent.VOICEMAIL, Intent.OPT_OUT, Intent.WRONG_PERSON, Intent.WHO, Intent.REPEAT, Intent.HOLD_ON})
_YIELD_TO_YES_NO = frozenset({Intent.BUSY, Intent.NOT_INTERESTED, Intent.GOODBYE})
MAX_GREETINGS = 2
MIN_WORDS_FOR_OPINION = 2


def interpret(question: Question | None, state: CallState, heard: str, today: date) -> Understanding:
    """What the grammars make of a turn; `question` is the pending one."""
    intent = find_intent(heard)
    if intent is Intent.VOICEMAIL and state.answers:
        intent = None  # a machine answers nothing before it asks for a message
    if intent in _ALWAYS:
        return Understanding(kind="intent", intent=intent)
    if intent is Intent.GREETING and state.intents.get(intent.value, 0) < MAX_GREETINGS:
        return Understanding(kind="intent", intent=intent)
    answer = parse_answer(question, heard, today) if question is not None else None
    if intent in _YIELD_TO_YES_NO and (answer is None or not _yes_no_first(question, intent)):
        return Understanding(kind="intent", intent=intent)
    if question is not None and answer is not None:
        return Understanding(kind="answer", question=question.name, answer=taken(answer, "grammar"))
    return Understanding(kind="unclear", question=question.name if question else None)


def taken(answer: Answer, decided_by: str) -> FieldAnswer:
    """An answer as the state keeps it."""
    return FieldAnswer.model_validate(
        {
            "value": answer.value,
            "decided_by": decided_by,
            "confidence": answer.confidence,
            "evidence": answer.evidence,
        }
    )


def wants_opinion(question: Question | None, meant: Understanding, heard: str) -> bool:
    """Whether a model's second opinion is worth its time: something was said, and it was not "I don't know"."""
    return (
        question is not None
        and meant.kind == "unclear"
        and len(words_of(heard)) >= MIN_WORDS_FOR_OPINION
        and not is_unsure(heard)
    )


def _yes_no_first(question: Question | None, intent: Intent | None) -> bool:
    """ "Call me back, sure" answers a yes/no question; "not interested" does so only where interest is asked."""
    if question is None or question.type is not QuestionType.YES_NO:
        return False
    return intent is not Intent.NOT_INTERESTED or question.lead == "interest"
