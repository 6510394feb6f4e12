"""What was said and learned in a call, written by the worker while and after it happens."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.crypto import DataKey
from callfleet_core.db.outages import until_done
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


class Owner(NamedTuple):
    """Whose a call is: the pod that began its dial, in the generation of its media leg. Nobody else writes of it."""

    pod_uid: str
    generation: int


class CallRecords:
    """The worker's own records; a call's id is its attempt's id.

    Every method is one call of one SQL function. Each answers false, and writes nothing, where somebody else owns the
    call; of a person who was erased meanwhile nothing is kept that says anything of them.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add_turns(
        self, call_id: UUID, turns: Sequence[Turn], *, first_seq: int, key: DataKey, owner: Owner
    ) -> bool:
        """Appends turns from number `first_seq` on, under the person's key; writing one again changes nothing."""
        rows = [
            {
                **turn.model_dump(mode="json"), "seq": first_seq + offset,
                "content": b64encode(key.encrypt(SAID, turn.content)).decode(),
            }
            for offset, turn in enumerate(turns)
        ]  # fmt: skip
        return await self._own(
            "worker_add_turns(:call, :pod, :generation, CAST(:turns AS jsonb))", call_id, owner, turns=json.dumps(rows)
        )

    async def opted_out(self, call_id: UUID, *, owner: Owner) -> bool:
        """Puts the call's person on the do-not-call list, for good; saying it again changes nothing."""
        return await self._own("worker_opted_out(:call, :pod, :generation)", call_id, owner)

    async def finish(
        self, call_id: UUID, outcome: CallOutcome, lead: LeadFields | None, usage: Sequence[Usage], *, owner: Owner
    ) -> bool:
        """Stores outcome, lead and usage in one transaction; doing it again overwrites with the same.

        A call that was opted out stays it, whatever the outcome says.
        """
        whole = {
            **outcome.model_dump(mode="json"),
            "lead": None if lead is None else lead.model_dump(mode="json"),
            "usage": [item.model_dump(mode="json") for item in usage],
        }
        return await self._own(
            "worker_finish(:call, :pod, :generation, CAST(:outcome AS jsonb))",
            call_id,
            owner,
            outcome=json.dumps(whole),
        )

    async def _own(self, function: str, call_id: UUID, owner: Owner, **parameters: str) -> bool:
        statement = text(f"SELECT {function}")
        values = {"call": call_id, "pod": owner.pod_uid, "generation": owner.generation, **parameters}

        async def call() -> bool:
            async with self._engine.begin() as connection:
                return bool((await connection.execute(statement, values)).scalar_one())

        return await until_done(call)
