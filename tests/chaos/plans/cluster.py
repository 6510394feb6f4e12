"""Nodes and workers, pretended: pods start and end as a kubelet's do, and on them calls are made by the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from tests.chaos.api.face import Api
from tests.chaos.api.server import Body, Change, RefusalError
from tests.chaos.plans.carrier import PretendCarrier

from callfleet_core.dialing import DialOrder, DialStore, EndEvidence, Verdict
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall
from callfleet_operator.objects import POOL_LABEL
from callfleet_worker.supervisor.kube import BoundSession, bound_session, progress_patch

START_S, HEAR_S, DIAL_S = 0.5, 0.02, 0.05
TICK_S = 0.5
COLLECT_S = 1.0
_SESSIONS = "/apis/callfleet.dev/v1alpha1/namespaces"


@dataclass
class Worker:
    """What runs in one pod."""

    uid: str
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    takes_calls: bool = True


@dataclass
class Cluster:
    """A kubelet for all pods, the garbage collector, and the workers; faults do not touch them."""

    api: Api
    dialing: Callable[[str], DialStore]
    carrier: PretendCarrier
    clock: Callable[[], datetime]
    workers: dict[str, Worker] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _seen: set[UUID] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _context: Context = field(default_factory=copy_context)

    def start(self) -> None:
        """Begins to look after pods and sessions."""
        self.api.on_change.append(self._changed)
        self._spawn(self._collect())

    def stop(self) -> None:
        """Ends everything."""
        for task in [*self._tasks, *(task for worker in self.workers.values() for task in worker.calls)]:
            task.cancel()

    def lose(self, namespace: str, name: str) -> None:
        """A node dies with its pod: nothing on it says goodbye."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        uid = self.api.request("GET", path)["metadata"]["uid"]
        for task in self.workers.pop(uid).calls:
            task.cancel()
        self.api.request("DELETE", path, {"gracePeriodSeconds": 0})

    def _changed(self, change: Change) -> None:
        kind, body = change.resource.kind, change.body
        if kind == "Pod" and change.type == "ADDED" and POOL_LABEL in (body["metadata"].get("labels") or {}):
            self._spawn(self._run_pod(body["metadata"]["namespace"], body["metadata"]["name"], body["metadata"]["uid"]))
        elif kind == "CallSession" and change.type != "DELETED" and (session := bound_session(body)):
            self._hear(session)

    def _spawn(self, what: Any) -> None:
        """Begins something of the cluster's own, also where an operator's write was the occasion."""
        task = asyncio.create_task(what, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_S)
            while self.api.collect():
                pass

    async def _run_pod(self, namespace: str, name: str, uid: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        await asyncio.sleep(START_S)
        if not self._is_there(path, uid):
            return
        self.api.assign(path, "node")
        ready = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
        self.api.request("PATCH", f"{path}/status", {"status": {"phase": "Running", "conditions": ready}})
        worker = self.workers[uid] = Worker(uid)
        while (body := self._is_there(path, uid)) and uid in self.workers:
            if "deletionTimestamp" in body["metadata"]:
                worker.takes_calls = False
                if not worker.calls:
                    self.api.request("DELETE", path, {"gracePeriodSeconds": 0})
                    break
            await asyncio.sleep(TICK_S)
        self.workers.pop(uid, None)

    def _is_there(self, path: str, uid: str) -> Body | None:
        try:
            body = self.api.request("GET", path)
        except RefusalError:
            return None
        return body if body["metadata"]["uid"] == uid else None

    def _hear(self, session: BoundSession) -> None:
        worker = self.workers.get(session.pod_uid)
        if worker is None or not worker.takes_calls or session.state != "Admitted" or session.attempt_id in self._seen:
            return
        self._seen.add(session.attempt_id)
        task = asyncio.create_task(self._guarded(session), context=self._context.copy())
        worker.calls.add(task)
        task.add_done_callback(worker.calls.discard)

    async def _guarded(self, session: BoundSession) -> None:
        try:
            await self._call(session)
        except Exception as error:  # noqa: BLE001  # told at the end: a worker's trouble is the plan's
            self.problems.append(f"worker of {session.name}: {error!r}"[:300])

    async def _call(self, session: BoundSession) -> None:
        await asyncio.sleep(HEAR_S)
        dialing = self.dialing(session.namespace)
        order = await self._dialed(dialing, session)
        if order is None:
            return
        rights: dict[str, Any] = {"pod_uid": session.pod_uid, "generation": order.generation}
        await asyncio.sleep(DIAL_S)
        sid = self.carrier.dial(order)
        self._report(session, "Dialing", sid)
        await asyncio.sleep(DIAL_S)
        await dialing.record_placed(session.attempt_id, sid, **rights)
        while not self.carrier.is_over(sid):
            await asyncio.sleep(TICK_S)
            if self.carrier.calls[sid].status == "in-progress":
                self._report(session, "InProgress", sid)

    async def _dialed(self, dialing: DialStore, session: BoundSession) -> DialOrder | None:
        nonce = uuid4()
        while True:
            decision = await dialing.begin_dial(session.attempt_id, session.pod_uid, nonce)
            if decision.verdict is not Verdict.WAIT or decision.retry_at is None:
                return decision.order
            await asyncio.sleep(max(0.01, (decision.retry_at - self.clock()).total_seconds()))

    def _report(self, session: BoundSession, state: Literal["Dialing", "InProgress"], sid: str) -> None:
        """Writes progress into a session that is still bound by this attempt and has not come so far."""
        path = f"{_SESSIONS}/{session.namespace}/callsessions/{session.name}"
        try:
            found = bound_session(self.api.request("GET", path))
        except RefusalError:
            return
        before = {"Dialing": {"Admitted"}, "InProgress": {"Admitted", "Dialing"}}[state]
        if found is not None and found.attempt_id == session.attempt_id and found.state in before:
            seen = replace(session, resource_version=found.resource_version, conditions=found.conditions)
            self.api.request("PATCH", f"{path}/status", progress_patch(seen, state, sid, self.clock()))


@dataclass
class Gateway:
    """What the carrier's callbacks do: the gateway's part of the protocol, whatever becomes of worker and operator."""

    dialing: DialStore
    clock: Callable[[], datetime]
    problems: list[str] = field(default_factory=list)

    async def answered(self, attempt: UUID, call: CarrierCall) -> None:
        """Somebody picked up."""
        await self.dialing.record_answered(attempt, self.clock(), call_sid=call.sid)

    async def ended(self, attempt: UUID, call: CarrierCall) -> None:
        """The carrier's last word."""
        await asyncio.sleep(DIAL_S)
        evidence = EndEvidence(
            source="callback", status=FINAL_STATUSES[call.status], call_sid=call.sid, duration_s=call.duration_s,
            at=self.clock(),
        )  # fmt: skip
        await self.dialing.record_ended(attempt, evidence)
