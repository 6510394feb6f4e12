"""The frozen script of a call: what the agent asks, and how the answers qualify a lead.

It is part of a Campaign's spec and is copied into the attempt's row when the money is held, so that a
campaign edited meanwhile never changes a call that was already admitted.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from callfleet_core.money import MONEY_PATTERN

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-zA-Z0-9_]{0,39}$", max_length=40)]
# No control characters but tabs and line ends: PostgreSQL's JSON cannot hold a NUL, and nobody can speak the others.
TEXT_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=TEXT_PATTERN)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=TEXT_PATTERN)]

MOST_QUESTIONS = 12


class ApiModel(BaseModel):
    """Base of everything that appears in a manifest: camelCase outside, snake_case inside, no unknown keys."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", use_enum_values=False)


class QuestionType(StrEnum):
    """What kind of answer a question expects; each has a deterministic parser in the worker."""

    YES_NO = "YesNo"
    NUMBER = "Number"
    MONEY = "Money"
    DATE_RANGE = "DateRange"
    CHOICE = "Choice"
    TEXT = "Text"


class AskWhen(ApiModel):
    """Asks a question only after an earlier one got one of these answers."""

    question: Name = Field(description="The name of an earlier question.")
    is_: list[ShortText] = Field(
        alias="is",
        min_length=1,
        max_length=10,
        description='The answers that lead here: "yes", "no", a choice.',
    )


class Qualify(ApiModel):
    """How an answer counts for the lead's score: it adds its weight when every given condition holds."""

    weight: int = Field(
        default=1, ge=1, le=10, description="How much this answer counts beside the others; 1 unless said."
    )
    is_: list[ShortText] | None = Field(
        default=None, alias="is", min_length=1, max_length=10, description="The answers that qualify."
    )
    min: Annotated[str, StringConstraints(pattern=MONEY_PATTERN, max_length=16)] | None = Field(
        default=None, description="The least number or amount that qualifies."
    )
    max: Annotated[str, StringConstraints(pattern=MONEY_PATTERN, max_length=16)] | None = Field(
        default=None, description="The greatest number or amount that qualifies."
    )
    within_days: int | None = Field(
        default=None, ge=1, le=3650, description="A date range qualifies when it begins within so many days."
    )


class Question(ApiModel):
    """One thing the agent wants to know."""

    name: Name = Field(description="The lead's field that the answer is stored in.")
    type: QuestionType = Field(description="The kind of answer, which decides how it is understood.")
    ask: list[Line] = Field(min_length=1, max_length=5, description="Ways to ask; one is drawn for each call.")
    reask: list[Line] = Field(default_factory=list, max_length=5, description="Ways to ask again when not understood.")
    required: bool = Field(
        default=True, description="Asked again, up to twice, until it is answered; true unless said."
    )
    choices: list[ShortText] = Field(default_factory=list, max_length=10, description="For Choice: what can be chosen.")
    when: AskWhen | None = Field(default=None, description="Ask only after this answer to an earlier question.")
    qualify: Qualify | None = Field(default=None, description="How the answer counts for the lead's score.")
    lead: Literal["interest", "budget", "timeline", "decisionMaker"] | None = Field(
        default=None, description="Which of a lead's standard properties this answer gives."
    )

    @model_validator(mode="after")
    def _choices_belong_to_choice(self) -> Self:
        if (self.type is QuestionType.CHOICE) != (len(self.choices) >= 2):
            raise ValueError("choices must hold at least two entries for type Choice, and be absent for other types")
        return self


class CallScript(ApiModel):
    """What one call says and asks."""

    persona: str = Field(min_length=1, max_length=1000, description="Who the agent is; part of the model's prompt.")
    generation: Literal["template"] = Field(
        default="template", description="template: every spoken question is the campaign's own text."
    )
    llm_model: str = Field(min_length=1, max_length=100)
    opening: Line
    closing: Line
    questions: list[Question] = Field(min_length=1, max_length=MOST_QUESTIONS)
