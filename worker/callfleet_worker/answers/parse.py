"""One entry for all typed answers: the question says how its answer is read."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from callfleet_core.script import Question, QuestionType
from callfleet_worker.answers.choice import parse_choice
from callfleet_worker.answers.dates import parse_date_range
from callfleet_worker.answers.money import parse_money
from callfleet_worker.answers.numbers import parse_number
from callfleet_worker.answers.text import parse_text
from callfleet_worker.answers.words import Answer
from callfleet_worker.answers.yesno import parse_yes_no


def parse_answer(question: Question, text: str, today: date) -> Answer | None:
    """The canonical answer to this question in these words, or nothing when the grammars are in doubt."""
    match question.type:
        case QuestionType.YES_NO:
            return parse_yes_no(text, " ".join(question.ask))
        case QuestionType.NUMBER:
            return parse_number(text)
        case QuestionType.MONEY:
            return parse_money(text, _least_expected(question))
        case QuestionType.DATE_RANGE:
            return parse_date_range(text, today)
        case QuestionType.CHOICE:
            return parse_choice(text, question.choices)
        case QuestionType.TEXT:
            return parse_text(text)


def _least_expected(question: Question) -> Decimal | None:
    bounds = [bound for bound in (question.qualify.min, question.qualify.max) if bound] if question.qualify else []
    return Decimal(bounds[0]) if bounds else None
