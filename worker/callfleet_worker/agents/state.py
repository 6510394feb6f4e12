"""What a call's agents know: the committed state, what was understood of a turn, and the reply decided upon."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from callfleet_worker.answers.intents import Intent

DecidedBy = Literal["grammar", "llm", "template"]
LineKind = Literal["opening", "ack", "question", "reask", "note", "filler", "closing"]
AgentType = Literal["greeter", "qualifier", "closer"]
Disposition = Literal[
    "qualified", "notQualified", "notInterested", "optedOut", "incomplete", "wrongPerson", "voicemail"
]


class FieldAnswer(BaseModel):
    """One understood answer, who understood it and in which words it was given."""

    value: str
    decided_by: DecidedBy
    confidence: float
    evidence: str


class CallState(BaseModel):
    """Where the conversation stands; written only when a reply is committed."""

    pending: str | None = None
    asked: dict[str, int] = Field(default_factory=dict)
    answers: dict[str, FieldAnswer] = Field(default_factory=dict)
    skipped: list[str] = Field(default_factory=list)
    intents: dict[str, int] = Field(default_factory=dict)
    silences: int = 0
    acknowledged: int = 0
    disposition: Disposition | None = None


class Understanding(BaseModel):
    """What one turn of the person meant."""

    kind: Literal["start", "answer", "intent", "unclear", "silence", "timeUp"]
    question: str | None = None
    answer: FieldAnswer | None = None
    intent: Intent | None = None

    @property
    def decided_by(self) -> DecidedBy:
        """Which of grammar, llm and template decided how the call goes on."""
        if self.answer is not None:
            return self.answer.decided_by
        return "grammar" if self.kind == "intent" else "template"


class Line(BaseModel):
    """One clause to say."""

    model_config = ConfigDict(frozen=True)

    text: str
    kind: LineKind
    agent: AgentType


class Reply(BaseModel):
    """What to say next, the state that follows once it is said, and whether the call ends then."""

    lines: list[Line]
    state: CallState
    hang_up: bool = False
