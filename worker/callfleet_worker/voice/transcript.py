"""What the conversation reports of itself, turn by turn; where it goes is the call's business."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from callfleet_worker.agents.state import CallState, Understanding
from callfleet_worker.voice.frames import UtteranceFrame


@dataclass(frozen=True)
class UserTurn:
    """One thing the person said and what became of it; the latency is known once the reply begins."""

    text: str
    agent: str
    metadata: dict[str, Any]
    latency_ms: asyncio.Future[int | None] | None = None


@dataclass(frozen=True)
class AgentTurn:
    """One reply, as far as it was spoken."""

    text: str
    agent: str
    metadata: dict[str, Any] = field(default_factory=dict)


class Transcript(Protocol):
    """Takes turns without making the conversation wait."""

    def add(self, turn: UserTurn | AgentTurn) -> None:
        """Appends a turn."""
        ...

    def keep(self, state: CallState) -> None:
        """Remembers the committed state for as long as the call lives."""
        ...


def heard_of(utterance: UtteranceFrame) -> dict[str, Any]:
    """How an utterance was heard."""
    return {"heard_ms": utterance.speech_ms, "decode_ms": utterance.decode_ms}


def understood_of(utterance: UtteranceFrame, meant: Understanding, question: str | None) -> dict[str, Any]:
    """How an utterance was heard and what it was taken for, as the answer to `question`."""
    return {
        **heard_of(utterance),
        "question": question,
        "decided_by": meant.decided_by,
        "value": meant.answer.value if meant.answer else None,
        "confidence": meant.answer.confidence if meant.answer else None,
        "intent": meant.intent.value if meant.intent else None,
    }
