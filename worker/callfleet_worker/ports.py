"""What the worker needs of the outside, as protocols: core's stores fit them, and so do a test's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from callfleet_core.crypto import DataKey
from callfleet_core.dialing import AttemptView, DialDecision, EndEvidence, PlacedResult
from callfleet_core.records import CallOutcome, LeadFields, Owner, Turn, Usage


class Dials(Protocol):
    """The worker's rights in the ledger (see `callfleet_core.dialing.DialStore`)."""

    async def begin_dial(self, attempt_id: UUID, pod_uid: str, nonce: UUID) -> DialDecision:
        """Asks for the right to dial now."""
        ...

    async def record_placed(
        self, attempt_id: UUID, call_sid: str, *, pod_uid: str | None = None, generation: int | None = None
    ) -> PlacedResult:
        """Says that the carrier took the call."""
        ...

    async def record_answered(
        self,
        attempt_id: UUID,
        at: datetime,
        *,
        call_sid: str,
        pod_uid: str | None = None,
        generation: int | None = None,
    ) -> bool:
        """Says that the person picked up."""
        ...

    async def record_ended(
        self, attempt_id: UUID, evidence: EndEvidence, *, pod_uid: str | None = None, generation: int | None = None
    ) -> bool:
        """Says how the call ended."""
        ...

    async def attempt_view(self, attempt_id: UUID) -> AttemptView | None:
        """Where the attempt stands."""
        ...


class Records(Protocol):
    """Transcript and outcome (see `callfleet_core.records.CallRecords`)."""

    async def add_turns(
        self, call_id: UUID, turns: Sequence[Turn], *, first_seq: int, key: DataKey, owner: Owner
    ) -> bool:
        """Appends turns; idempotent by number. Like all of these it answers whether the owner is the call's."""
        ...

    async def opted_out(self, call_id: UUID, *, owner: Owner) -> bool:
        """Stores at once that the person wishes not to be called again; idempotent."""
        ...

    async def finish(
        self, call_id: UUID, outcome: CallOutcome, lead: LeadFields | None, usage: Sequence[Usage], *, owner: Owner
    ) -> bool:
        """Stores the outcome; idempotent."""
        ...
