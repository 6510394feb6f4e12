"""The attempt's side of the ledger: every statement is retried for a while, for PostgreSQL may restart during a call.

All of them are safe to repeat: `begin_dial` by its nonce, the others because evidence is recorded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from callfleet_core.dialing import DialOrder, EndEvidence, PlacedResult, Verdict
from callfleet_worker.ports import Dials

GRANT_WAIT_S = 120.0
"""A grant expires 120 s after it was made, so waiting longer for begin_dial is in vain."""
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 4.0
EVIDENCE_TRIES = 6
LEAST_WAIT_S = 0.05

_log = structlog.get_logger(__name__)
_Answer = TypeVar("_Answer")


class AttemptLedger:
    """What one call process may say about its attempt."""

    def __init__(self, dials: Dials, attempt_id: UUID, pod_uid: str) -> None:
        self._dials, self._attempt, self._pod = dials, attempt_id, pod_uid
        self._generation = 0

    async def begin(self, stop: asyncio.Event) -> DialOrder | str:
        """The order, or why there is none; waits as long as it is told to and the grant can live."""
        nonce = uuid4()
        deadline = _now() + GRANT_WAIT_S
        while True:
            decision = await self._retried(lambda: self._dials.begin_dial(self._attempt, self._pod, nonce), deadline)
            if decision.verdict is Verdict.GO and decision.order is not None:
                self._generation = decision.order.generation
                return decision.order
            if decision.verdict is not Verdict.WAIT or decision.retry_at is None:
                return decision.reason or "Refused"
            pause_s = max(LEAST_WAIT_S, (decision.retry_at - datetime.now(UTC)).total_seconds())
            if _now() + pause_s > deadline or stop.is_set():
                return decision.reason or "Expired"
            await asyncio.sleep(pause_s)

    async def placed(self, call_sid: str) -> PlacedResult | None:
        """Records the SID; nothing when PostgreSQL stays away, where the carrier's callback will say it instead."""
        return await self._evidence(
            lambda: self._dials.record_placed(self._attempt, call_sid, pod_uid=self._pod, generation=self._generation)
        )

    async def answered(self, call_sid: str) -> None:
        """Records that the person picked up now."""
        at = datetime.now(UTC)
        await self._evidence(
            lambda: self._dials.record_answered(
                self._attempt, at, call_sid=call_sid, pod_uid=self._pod, generation=self._generation
            )
        )

    async def not_placed(self, error_code: str) -> None:
        """Ends the attempt: there is certainly no call."""
        evidence = EndEvidence(source="worker", status="notPlaced", error_code=error_code, at=datetime.now(UTC))
        await self._evidence(
            lambda: self._dials.record_ended(self._attempt, evidence, pod_uid=self._pod, generation=self._generation)
        )

    async def is_over(self) -> bool:
        """Whether the carrier's evidence has ended the attempt; false while PostgreSQL does not answer."""
        try:
            view = await self._dials.attempt_view(self._attempt)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("the attempt could not be read", error=type(error).__name__)
            return False
        return view is None or view.state in ("ended", "settled", "revoked")

    async def _evidence(self, say: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        for attempt in range(EVIDENCE_TRIES):
            try:
                return await say()
            except (SQLAlchemyError, OSError) as error:
                _log.warning("evidence could not be recorded", error=type(error).__name__)
                await asyncio.sleep(min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**attempt))
        _log.error("evidence is left to the carrier's callbacks", attempt=str(self._attempt))
        return None

    async def _retried(self, ask: Callable[[], Awaitable[_Answer]], deadline: float) -> _Answer:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await ask()
            except (SQLAlchemyError, OSError) as error:
                if _now() + pause_s > deadline:
                    raise
                _log.warning("begin_dial got no answer and is asked again", error=type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, pause_s * 2)


def _now() -> float:
    return asyncio.get_running_loop().time()
