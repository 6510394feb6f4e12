"""The right to dial: what workers and the gateway may do with an attempt (docs/architecture.md, the protocol).

Every method is one call of one SQL function, which decides under the attempt's row lock by PostgreSQL's clock.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.crypto import DataKey, Keyring, KeyringError, WrappedKey
from callfleet_core.db.outages import until_done
from callfleet_core.ledger.fencing import fenced
from callfleet_core.script import CallScript
from callfleet_core.subjects import NAME, PHONE


class Verdict(StrEnum):
    """What begin_dial answers."""

    GO = "go"
    WAIT = "wait"
    REFUSED = "refused"


class DialOrder(BaseModel):
    """Everything needed to place one call. Holds a phone number: never log it whole."""

    model_config = ConfigDict(frozen=True)

    attempt_id: UUID
    number: int
    namespace: str
    campaign: str
    session: str
    contact_id: UUID
    to: str
    from_: str
    contact_name: str | None
    time_limit_s: int
    ring_timeout_s: int
    max_queue_s: int = 30
    account_sid: str
    api_base_url: str
    public_url: str
    generation: int
    script: CallScript
    time_zone: str
    # What is said in the call is stored under it.
    subject_key: DataKey = Field(repr=False, exclude=True)


class DialDecision(BaseModel):
    """begin_dial's answer: go with an order, wait until retry_at, or refused for a reason."""

    verdict: Verdict
    reason: str | None = None
    retry_at: datetime | None = None
    order: DialOrder | None = None


EndStatus = Literal["completed", "busy", "no-answer", "failed", "canceled", "notPlaced", "unresolved"]


class EndEvidence(BaseModel):
    """How a call ended, in the carrier's words, and who says so."""

    source: Literal["callback", "worker", "operator"]
    status: EndStatus
    call_sid: str | None = None
    duration_s: int | None = None
    error_code: str | None = None
    sip_code: int | None = None
    at: datetime


class PlacedResult(StrEnum):
    """What a call's SID met in the attempt's row."""

    PLACED = "placed"
    SAME = "same"
    SECOND_SID = "second_sid"
    CLOSED = "closed"
    UNKNOWN_ATTEMPT = "unknown_attempt"


class AttemptView(BaseModel):
    """What TwiML needs to know of an attempt: no money, no person."""

    attempt_id: UUID
    state: Literal["granted", "revoked", "dialing", "placed", "ended", "settled"]
    call_sid: str | None
    cancel_requested: bool
    account_sid: str
    public_url: str
    ring_timeout_s: int
    time_limit_s: int


class DialStore:
    """The protocol's doors for workers (who pass pod_uid and generation), the gateway and the operator (who do not).

    What the carrier says is true whoever brings it. That nobody can say how a call ended is the leader's own verdict.
    """

    def __init__(
        self, engine: AsyncEngine, ring: Keyring | None = None, epoch: Callable[[], int] | None = None
    ) -> None:
        """`ring`: the keys of the namespace whose people are dialled; only begin_dial needs them.

        `epoch`: the operator's, which its verdicts carry.
        """
        self._engine = engine
        self._ring = ring
        self._epoch = epoch

    async def _call(
        self,
        sql: str,
        read: Callable[[Any], Any] | None = None,
        *,
        epoch: Callable[[], int] | None = None,
        **parameters: Any,
    ) -> Any:
        """A statement's answer, as `read` reads it: inside the transaction, which an answer that is no use undoes."""

        async def call() -> Any:
            async with fenced(self._engine, epoch) as connection:
                answer = (await connection.execute(text(f"SELECT {sql}"), parameters)).scalar_one()
                return answer if read is None else read(answer)

        return await until_done(call)

    async def begin_dial(self, attempt_id: UUID, pod_uid: str, nonce: UUID) -> DialDecision:
        """Asks for the right to dial now; the same nonce gets the same answer, so a lost reply is harmless.

        A number that cannot be read gives no right to dial it: the grant stays as it was. Raises CryptoError.
        """
        decision: DialDecision = await self._call(
            "begin_dial(:attempt, :pod, :nonce)", self._decision, attempt=attempt_id, pod=pod_uid, nonce=nonce
        )
        return decision

    def _decision(self, answer: dict[str, Any]) -> DialDecision:
        if "order" in answer:
            answer["order"] = self._opened(answer["order"])
        return DialDecision.model_validate(answer)

    def _opened(self, order: dict[str, Any]) -> dict[str, Any]:
        """The order with its number and name readable, and the person's key."""
        if self._ring is None:
            raise KeyringError("this store has no keys: set CALLFLEET_NAMESPACE_KEYS")
        wrapped = WrappedKey(order.pop("key_version"), b64decode(order.pop("wrapped_key")))
        key = self._ring.unwrap(UUID(order["contact_id"]), wrapped)
        name = order["contact_name"]
        return {
            **order,
            "to": key.decrypt(PHONE, b64decode(order["to"])),
            "contact_name": None if name is None else key.decrypt(NAME, b64decode(name)),
            "subject_key": key,
        }

    async def record_placed(
        self, attempt_id: UUID, call_sid: str, *, pod_uid: str | None = None, generation: int | None = None
    ) -> PlacedResult:
        """Says that the carrier took the call under `call_sid`; a second SID must be hung up by the caller."""
        if pod_uid is None:
            answer = await self._call("record_placed(:attempt, :sid)", attempt=attempt_id, sid=call_sid)
        else:
            answer = await self._call(
                "worker_record_placed(:attempt, :pod, :generation, :sid)",
                attempt=attempt_id, pod=pod_uid, generation=generation, sid=call_sid,
            )  # fmt: skip
        return PlacedResult(answer)

    async def record_answered(
        self,
        attempt_id: UUID,
        at: datetime,
        *,
        call_sid: str,
        pod_uid: str | None = None,
        generation: int | None = None,
    ) -> bool:
        """Says that the person picked up; true when this was news."""
        if pod_uid is None:
            answer = await self._call("record_answered(:attempt, :sid, :at)", attempt=attempt_id, sid=call_sid, at=at)
        else:
            answer = await self._call(
                "worker_record_answered(:attempt, :pod, :generation, :sid, :at)",
                attempt=attempt_id, pod=pod_uid, generation=generation, sid=call_sid, at=at,
            )  # fmt: skip
        return bool(answer)

    async def record_ended(
        self,
        attempt_id: UUID,
        evidence: EndEvidence,
        *,
        pod_uid: str | None = None,
        generation: int | None = None,
    ) -> bool:
        """Says how the call ended; true when this ended the attempt (or resolved an unresolved one).

        Raises StaleEpochError for `unresolved` where another operator leads by now: it may know how the call goes on.
        """
        parameters: dict[str, Any] = {
            "attempt": attempt_id,
            "evidence": json.dumps(evidence.model_dump(mode="json")),
        }
        if pod_uid is None:
            epoch = self._epoch if evidence.status == "unresolved" else None
            answer = await self._call("record_ended(:attempt, CAST(:evidence AS jsonb))", epoch=epoch, **parameters)
            return bool(answer)
        answer = await self._call(
            "worker_record_ended(:attempt, :pod, :generation, CAST(:evidence AS jsonb))",
            pod=pod_uid,
            generation=generation,
            **parameters,
        )
        return bool(answer)

    async def attempt_view(self, attempt_id: UUID) -> AttemptView | None:
        """The attempt as TwiML needs it, or None when there is none."""
        answer = await self._call("attempt_view(:attempt)", attempt=attempt_id)
        return None if answer is None else AttemptView.model_validate(answer)
