"""A second opinion on an answer the grammars left open: under a schema, with a quote that must be in the transcript."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from callfleet_core.script import Question, QuestionType
from callfleet_worker.answers.parse import parse_answer
from callfleet_worker.answers.words import Answer, words_of
from callfleet_worker.llm.client import Example, LlmUnavailableError

OPINION_DEADLINE_S = 3.0
OPINION_MAX_TOKENS = 80
OPINION_CONFIDENCE = 0.5
UNCLEAR = "unclear"
_SYSTEM = "Extract the answer from the reply. Quote the exact words that say so as evidence; else say unclear."
# The last one says unclear: a small model follows what it saw last, and abstaining is its safer habit.
_EXAMPLES = (
    Example(
        "Question: Do you have a garden?\nReply: Where we live there is only a balcony.",
        '{"evidence": "there is only a balcony", "value": "no"}',
    ),
    Example(
        "Question: Do you work from home?\nReply: I have my own office at home, every day.",
        '{"evidence": "I have my own office at home", "value": "yes"}',
    ),
    Example(
        "Question: How many cars do you have?\nReply: One for each of us three.",
        '{"evidence": "for each of us three", "value": "3"}',
    ),
    Example("Question: Do you like the area?\nReply: What time is it?", '{"evidence": "", "value": "unclear"}'),
)


class AsksModel(Protocol):
    """The part of the model's client that this job needs."""

    async def ask(
        self,
        system: str,
        user: str,
        *,
        deadline_s: float,
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        examples: Sequence[Example] = (),
        stop: str | None = None,
    ) -> str:
        """See `callfleet_worker.llm.client.LlmClient.ask`."""
        ...


class _Opinion(BaseModel):
    evidence: str
    value: str


async def second_opinion(model: AsksModel, question: Question, heard: str, today: date) -> Answer | None:
    """The model's reading, only when it quotes the transcript and its value passes the type's parser; else nothing."""
    prompt = f"Question: {question.ask[0]}\nReply: {heard}\n{_expected(question)}"
    try:
        raw = await model.ask(
            _SYSTEM,
            prompt,
            deadline_s=OPINION_DEADLINE_S,
            max_tokens=OPINION_MAX_TOKENS,
            schema=schema_for(question),
            examples=_EXAMPLES,
        )
        opinion = _Opinion.model_validate_json(raw)
    except (LlmUnavailableError, ValidationError):
        return None
    return checked(question, heard, opinion.evidence, opinion.value, today)


def checked(question: Question, heard: str, evidence: str, value: str, today: date) -> Answer | None:
    """An opinion that holds: quoted from the transcript, and of the question's type."""
    if value.strip().lower() == UNCLEAR or not _quotes(heard, evidence):
        return None
    if question.type in (QuestionType.YES_NO, QuestionType.CHOICE):
        allowed = {option.lower(): option for option in _options(question)}
        chosen = allowed.get(value.strip().lower())
        said = parse_answer(question, evidence, today)
        contradicted = said is not None and said.value != chosen
        return Answer(chosen, OPINION_CONFIDENCE, evidence) if chosen and not contradicted else None
    quoted = parse_answer(question, evidence, today)
    if quoted is None or (question.type is not QuestionType.TEXT and not _same(question, quoted, value, today)):
        return None
    return Answer(quoted.value, OPINION_CONFIDENCE, evidence)


def schema_for(question: Question) -> dict[str, Any]:
    """The JSON schema that Ollama holds the model to; evidence first, so that it is quoted before it is judged."""
    value: dict[str, Any] = {"type": "string"}
    if question.type in (QuestionType.YES_NO, QuestionType.CHOICE):
        value["enum"] = [*_options(question), UNCLEAR]
    return {
        "type": "object",
        "properties": {"evidence": {"type": "string"}, "value": value},
        "required": ["evidence", "value"],
    }


def _options(question: Question) -> list[str]:
    return ["yes", "no"] if question.type is QuestionType.YES_NO else list(question.choices)


def _expected(question: Question) -> str:
    match question.type:
        case QuestionType.YES_NO | QuestionType.CHOICE:
            return "Answer with one of: " + ", ".join([*_options(question), UNCLEAR])
        case QuestionType.NUMBER:
            return "Answer with a number, as digits."
        case QuestionType.MONEY:
            return "Answer with an amount of money, as digits."
        case QuestionType.DATE_RANGE:
            return "Answer with the words that say when."
        case QuestionType.TEXT:
            return "Answer with the person's own words."


def _quotes(heard: str, evidence: str) -> bool:
    said, quoted = words_of(heard), words_of(evidence)
    return bool(quoted) and re.search(rf"(?:^| ){re.escape(' '.join(quoted))}(?: |$)", " ".join(said)) is not None


def _same(question: Question, quoted: Answer, value: str, today: date) -> bool:
    parsed = parse_answer(question, value, today)
    return parsed is not None and parsed.value == quoted.value
