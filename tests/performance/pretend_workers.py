"""The workers' part of the protocol, for pods that KWOK pretends to run: begin, dial, answer, end; nobody speaks.

What is written, and how, is the worker's own code (`bound_session`, `progress_patch`, DialStore with the pod's UID).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from tests.integration.operator_parts import GROUP
from tests.performance.apiclient import ApiClient

from callfleet_core.dialing import DialOrder, DialStore, EndEvidence, Verdict
from callfleet_worker.supervisor.kube import BoundSession, bound_session, progress_patch

# As long as a real worker asks for the right to dial before it leaves the grant to expire.
BEGIN_TRIES = 200
CALL_S = 1


@dataclass
class PretendWorkers:
    """All pods' workers: one watch, since what is compared is the operator, not the number of watches."""

    api: ApiClient
    dialing: DialStore
    namespace: str
    # How often each contact was called, and when each session was seen to be bound (monotonic seconds).
    called: Counter[UUID] = field(default_factory=Counter)
    bound_at: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _seen: set[UUID] = field(default_factory=set)
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Works until cancelled."""
        path = f"{GROUP}/{self.namespace}/callsessions"
        try:
            while True:
                async for event in self.api.watch(path, {"fieldSelector": "status.state=Admitted"}):
                    if event["type"] in {"ADDED", "MODIFIED"} and (session := bound_session(event["object"])):
                        self._begin(session)
        finally:
            for task in self._calls:
                task.cancel()

    def _begin(self, session: BoundSession) -> None:
        if session.attempt_id in self._seen:
            return
        self._seen.add(session.attempt_id)
        self.bound_at.setdefault(session.name, time.monotonic())
        task = asyncio.create_task(self._guarded(session))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _guarded(self, session: BoundSession) -> None:
        try:
            await self._call(session)
        except Exception as error:  # noqa: BLE001  # told at the end: a benchmark of broken calls is none
            self.problems.append(f"{session.name}: {error!r}"[:300])

    async def _call(self, session: BoundSession) -> None:
        order = await self._dialed(session)
        if order is None:
            return
        self.called[order.contact_id] += 1
        sid = f"CA{session.attempt_id.hex}"
        rights: dict[str, Any] = {"pod_uid": session.pod_uid, "generation": order.generation}
        version = await self._report(session, session.resource_version, "Dialing", None)
        await self.dialing.record_placed(session.attempt_id, sid, **rights)
        await self.dialing.record_answered(session.attempt_id, datetime.now(UTC), call_sid=sid, **rights)
        if version is not None:
            await self._report(session, version, "InProgress", sid)
        evidence = EndEvidence(
            source="worker", status="completed", call_sid=sid, duration_s=CALL_S, at=datetime.now(UTC)
        )
        await self.dialing.record_ended(session.attempt_id, evidence, **rights)

    async def _dialed(self, session: BoundSession) -> DialOrder | None:
        nonce = uuid4()
        for _ in range(BEGIN_TRIES):
            decision = await self.dialing.begin_dial(session.attempt_id, session.pod_uid, nonce)
            if decision.verdict is not Verdict.WAIT or decision.retry_at is None:
                return decision.order
            await asyncio.sleep(max(0.0, (decision.retry_at - datetime.now(UTC)).total_seconds()))
        return None

    async def _report(
        self, session: BoundSession, version: str, state: Literal["Dialing", "InProgress"], sid: str | None
    ) -> str | None:
        """Writes progress over the version that is known; answers the new one, or None when somebody else wrote."""
        seen = replace(session, resource_version=version)
        patch = progress_patch(seen, state, sid, datetime.now(UTC))
        path = f"{GROUP}/{session.namespace}/callsessions/{session.name}/status"
        found = await self.api.call("PATCH", path, patch, gone_is_fine=True)
        return found["metadata"]["resourceVersion"] if found else None
