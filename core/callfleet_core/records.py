"""What was said and learned in a call, written by the worker while and after it happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.crypto import DataKey
from callfleet_core.subjects import SAID


class Turn(BaseModel):
    """One thing said, by either side. Personal: never logged."""

    agent_type: str
    message_type: Literal["user", "assistant"]
    content: str
    at: datetime
    metadata: dict[str, Any] = Field(default_factory=dict)


class LeadFields(BaseModel):
    """What was learned; the score lies between 0.00 and 1.00."""

    qualification_score: Decimal = Field(ge=0, le=1, decimal_places=2)
    interest_level: str | None = None
    budget_qualified: bool | None = None
    timeline: str | None = None
    decision_maker: bool | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class Usage(BaseModel):
    """How much of a meter the call used."""

    meter: Literal["stt_seconds", "llm_tokens_in", "llm_tokens_out", "tts_characters"]
    quantity: Decimal = Field(ge=0)
    provider: str


class CallOutcome(BaseModel):
    """How the conversation went, beside the carrier's word on how the call ended."""

    disposition: str
    turns: int = Field(ge=0)
    decided_by: dict[str, int] = Field(default_factory=dict)
    latency_ms_p50: int | None = None


class CallRecords:
    """The worker's own records; a call's id is its attempt's id."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add_turns(self, call_id: UUID, turns: Sequence[Turn], *, first_seq: int, key: DataKey) -> None:
        """Appends turns from number `first_seq` on, under the person's key; writing one again changes nothing."""
        rows = [
            {
                "call": call_id, "seq": first_seq + offset, "agent": turn.agent_type, "type": turn.message_type,
                "content": key.encrypt(SAID, turn.content), "at": turn.at, "metadata": json.dumps(turn.metadata),
            }
            for offset, turn in enumerate(turns)
        ]  # fmt: skip
        if not rows:
            return
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO conversations (call_id, seq, agent_type, message_type, content, timestamp, metadata)"
                    " VALUES (:call, :seq, :agent, :type, :content, :at, CAST(:metadata AS jsonb))"
                    " ON CONFLICT (call_id, seq) DO NOTHING"
                ),
                rows,
            )

    async def finish(
        self, call_id: UUID, outcome: CallOutcome, lead: LeadFields | None, usage: Sequence[Usage]
    ) -> None:
        """Stores outcome, lead and usage in one transaction; doing it again overwrites with the same."""
        async with self._engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE calls SET disposition = :disposition, turns = :turns,"
                    " decided_by = CAST(:decided_by AS jsonb), latency_ms_p50 = :latency WHERE id = :call"
                ),
                {
                    "call": call_id, "disposition": outcome.disposition, "turns": outcome.turns,
                    "decided_by": json.dumps(outcome.decided_by), "latency": outcome.latency_ms_p50,
                },
            )  # fmt: skip
            if lead is not None:
                await connection.execute(text(_LEAD), {"call": call_id, **_lead_row(lead)})
            for item in usage:
                await connection.execute(
                    text(
                        "INSERT INTO call_usage (call_id, meter, provider, quantity)"
                        " VALUES (:call, :meter, :provider, :quantity)"
                        " ON CONFLICT (call_id, meter, provider) DO UPDATE SET quantity = EXCLUDED.quantity"
                    ),
                    {"call": call_id, **item.model_dump()},
                )


_LEAD = """
INSERT INTO lead_scores (contact_id, call_id, qualification_score, interest_level, budget_qualified, timeline,
                         decision_maker, fields)
SELECT contact_id, id, :qualification_score, :interest_level, :budget_qualified, :timeline, :decision_maker,
       CAST(:fields AS jsonb) FROM calls WHERE id = :call
ON CONFLICT (call_id) DO UPDATE SET qualification_score = EXCLUDED.qualification_score,
    interest_level = EXCLUDED.interest_level, budget_qualified = EXCLUDED.budget_qualified,
    timeline = EXCLUDED.timeline, decision_maker = EXCLUDED.decision_maker, fields = EXCLUDED.fields
"""


def _lead_row(lead: LeadFields) -> dict[str, Any]:
    row = lead.model_dump()
    row["fields"] = json.dumps(lead.model_dump(mode="json")["fields"])
    return row
