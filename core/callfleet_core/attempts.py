"""Attempts whose truth nobody could find: what is known of them, and a person's word about them, audited.

Everything here works with the role callfleet_auditor, and shows no person.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.audit import word
from callfleet_core.errors import CallFleetError

MAX_LISTED = 1_000
CALL_SID: Final = re.compile(r"^CA[0-9a-fA-F]{32}$")

State = Literal["granted", "dialing", "placed", "ended", "settled", "revoked"]


class ResolveRefusedError(CallFleetError):
    """An attempt that cannot be resolved as asked; nothing was changed."""


class Need(StrEnum):
    """Why somebody must decide about an attempt."""

    OVERDUE = "Overdue"
    UNRESOLVED = "Unresolved"
    NO_DURATION = "NoDuration"


class Verdict(StrEnum):
    """What an attempt can be resolved as."""

    NOT_PLACED = "not-placed"
    COMPLETED = "completed"
    FAILED = "failed"
    NO_ANSWER = "no-answer"


@dataclass(frozen=True)
class AttemptFacts:
    """What is known of an attempt. `held_micros` is what it holds now, in `currency`; `deadline_at`: by then the
    carrier has ended the call, whatever happened."""

    id: UUID
    state: str
    needs: Need | None
    namespace: str
    campaign: str
    run_id: str
    session_name: str
    number: int
    account_sid: str
    call_sid: str | None
    currency: str
    held_micros: int
    granted_at: datetime
    begun_at: datetime | None
    placed_at: datetime | None
    answered_at: datetime | None
    ended_at: datetime | None
    deadline_at: datetime | None
    end_status: str | None
    duration_s: int | None
    lookups_empty: int
    last_lookup_at: datetime | None


@dataclass(frozen=True)
class Resolution:
    """What somebody found out about an attempt, who says so and why."""

    verdict: Verdict
    actor: str
    reason: str
    duration_s: int | None = None
    call_sid: str | None = None


class AttemptDesk:
    """Attempts for those who decide about them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def list(
        self,
        *,
        state: State | None = None,
        needs: frozenset[Need] = frozenset(),
        namespace: str | None = None,
        limit: int = MAX_LISTED,
    ) -> list[AttemptFacts]:
        """Attempts in a state, or that need one of `needs`; with neither, all that are not settled. Oldest first."""
        wanted = [_IN_STATE] if state else [_OF_NEED] if needs else [_UNSETTLED]
        if namespace:
            wanted.append("namespace = :namespace")
        parameters = {"state": state, "needs": sorted(needs), "namespace": namespace, "limit": min(limit, MAX_LISTED)}
        query = f"{_SELECT} WHERE {' AND '.join(wanted)} ORDER BY granted_at, id LIMIT :limit"
        async with self._engine.connect() as connection:
            rows = await connection.execute(text(query), parameters)
            return [_facts(dict(row)) for row in rows.mappings()]

    async def get(self, attempt_id: UUID) -> AttemptFacts | None:
        """One attempt, or None."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(text(f"{_SELECT} WHERE id = :id"), {"id": attempt_id})).mappings()
            found = row.one_or_none()
            return None if found is None else _facts(dict(found))

    async def resolve(self, attempt_id: UUID, resolution: Resolution) -> AttemptFacts:
        """Takes a person's word; the operator then settles. Answers the attempt as it is now.

        Raises ResolveRefusedError, with nothing changed, where the attempt is unknown, needs no word, or cannot be so,
        and WordMissingError.
        """
        actor, reason = word(resolution.actor, resolution.reason)
        if resolution.call_sid is not None and not CALL_SID.fullmatch(resolution.call_sid):
            raise ResolveRefusedError(
                "a call's SID is CA and 32 hexadecimal digits: copy it from the carrier's console"
            )
        before = await self.get(attempt_id)
        async with self._engine.begin() as connection:
            answer = await connection.execute(
                text("SELECT attempt_resolve(:id, :status, :duration, :sid, :actor, :reason)"),
                {
                    "id": attempt_id,
                    "status": "notPlaced" if resolution.verdict is Verdict.NOT_PLACED else resolution.verdict.value,
                    "duration": resolution.duration_s,
                    "sid": resolution.call_sid,
                    "actor": actor,
                    "reason": reason,
                },
            )
            result = str(answer.scalar_one())
        after = await self.get(attempt_id)
        if result != "Resolved" or after is None:
            raise ResolveRefusedError(_refusal(result, before))
        return after


def _facts(row: dict[str, object]) -> AttemptFacts:
    needs = row.pop("needs")
    return AttemptFacts(**row, needs=Need(str(needs)) if needs else None)  # type: ignore[arg-type]  # named alike


def _refusal(result: str, known: AttemptFacts | None) -> str:
    """Why nothing was changed, and what can be done."""
    if known is None:
        return "there is no attempt of this ID: `callfleet attempts list` shows those that there are"
    deadline = f"{known.deadline_at:%Y-%m-%d %H:%M:%S} UTC" if known.deadline_at else "its end"
    reasons = {
        "MayBeLive": f"the call may still be live: it can be resolved after {deadline}, if its end is not known then",
        "NotNeeded": f"this attempt is {known.state} and needs nobody's word",
        "OtherCall": f"the carrier placed this attempt as {known.call_sid}: another call's end says nothing about it",
        "SidTaken": "this call is another attempt's: look up the SID again",
        "KnownToBeCompleted": "the carrier said that the call was completed, only its duration is missing: give"
        " --as completed --duration SECONDS",
        "WasPlaced": f"the carrier placed this call as {known.call_sid}: resolve it as failed, no-answer or completed",
        "NothingHeld": "its money was returned already; if the call took place after all, resolve it as completed",
        "DurationMissing": "a completed call has a duration: give --duration SECONDS",
        "DurationMeaningless": "only a completed call has a duration: leave --duration out",
        "DurationTooLong": "the call cannot have lasted so long: the carrier ends it at its time limit",
    }
    return f"nothing was changed: {reasons.get(result, result)}"


_COLUMNS = ", ".join(AttemptFacts.__dataclass_fields__)
_SELECT = f"SELECT {_COLUMNS} FROM attempts_overview"  # noqa: S608  # names of our own
_IN_STATE = "state = :state"
# Written as the partial indexes of open and of ended attempts are.
_UNSETTLED = "(state IN ('granted', 'dialing', 'placed') OR state = 'ended')"
_OF_NEED = f"({_UNSETTLED} OR end_status = 'unresolved') AND needs = ANY(:needs)"
