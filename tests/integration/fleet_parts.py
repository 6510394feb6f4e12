"""A campaign's workers on a real API server without nodes: the operator makes and removes pods, tests start them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError
from uuid import UUID, uuid4

from tests.integration.apiserver import ApiServer
from tests.integration.books import CONSENT, SUBJECTS, billed, number
from tests.integration.operator_parts import GROUP, Operator, campaign_body

from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import admission, campaign, installation, pool, session, witness
from callfleet_operator.reconcile.pods import pool_keys

MERGE = "application/merge-patch+json"
SPRING = "spring"
IN_CALL = "callfleet.dev/in-call"
Body = dict[str, Any]


def prepare(server: ApiServer) -> None:
    """The installation's Secrets, which namespaces with workers get copies of."""
    for name in ("callfleet-worker", "callfleet-installation-carrier"):
        server.request("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": name}})


@dataclass
class Fleet:
    """One namespace's campaigns and pods under one operator, whose clock can be put forward."""

    parts: Operator
    server: ApiServer
    namespace: str
    ahead: timedelta = timedelta()

    @classmethod
    async def start(cls, parts: Operator, server: ApiServer) -> Fleet:
        """A new namespace, and an operator that may admit."""
        namespace = f"sales-{uuid4().hex[:8]}"
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        fleet = cls(parts, server, namespace)
        parts.context.now = lambda: datetime.now(UTC) + fleet.ahead
        await witness.begin(parts.context)
        await installation.reconcile(parts.context)
        return fleet

    def apply(self, people: int, *, name: str = SPRING, **spec: Any) -> None:
        """A Campaign for so many people; `spec` on top."""
        consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
        inline = [{"phone": number(index), "consent": consent} for index in range(people)]
        self.parts.apply(campaign_body(self.namespace, name, contacts={"inline": inline}, **spec))

    def change(self, name: str = SPRING, **spec: Any) -> None:
        """Changes a Campaign's spec, as a user does."""
        self.server.request("PATCH", f"{GROUP}/{self.namespace}/campaigns/{name}", {"spec": spec}, MERGE)

    async def look(self, times: int = 1) -> None:
        """Everything is looked at, as the engine does after each change."""
        context = self.parts.context
        for _ in range(times):
            await self.parts.see()
            for item in context.store.campaigns():
                if item.meta.namespace == self.namespace:
                    await campaign.reconcile(context, Key("Campaign", self.namespace, item.meta.name))
            await self.parts.see()
            await admission.reconcile(context)
            await self.look_at_pools()
            await self.parts.see()

    async def look_at_pools(self) -> None:
        """Every pool, once."""
        await self.parts.see()
        for key in pool_keys(self.parts.context, self.namespace):
            await pool.reconcile(self.parts.context, key)

    async def settled(self) -> None:
        """Looks until nothing changes any more: the finalizer, the contacts, the sessions, the pods."""
        await self.look(4)

    def pods(self) -> list[Body]:
        """The namespace's pods, by name."""
        found = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return sorted(found, key=lambda item: str(item["metadata"]["name"]))

    def pod_names(self) -> list[str]:
        """Their names."""
        return [item["metadata"]["name"] for item in self.pods()]

    def marked(self) -> list[str]:
        """Names of the pods that say they have a call."""
        return [item["metadata"]["name"] for item in self.pods() if IN_CALL in item["metadata"]["labels"]]

    def pod_status(self, name: str, **status: Any) -> None:
        """What a kubelet or the scheduler says of a pod."""
        self.server.request("PATCH", f"{self.path(name)}/status", {"status": status}, MERGE)

    def run_pods(self) -> None:
        """Every pod runs and is ready."""
        for item in self.pods():
            ready = {"type": "Ready", "status": "True"}
            self.pod_status(item["metadata"]["name"], phase="Running", conditions=[ready])

    def path(self, pod: str) -> str:
        """A pod's."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}"

    def evict(self, pod: str) -> int:
        """What the API server answers to an eviction."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        try:
            self.server.request("POST", f"{self.path(pod)}/eviction", body)
        except HTTPError as error:
            return error.code
        return 201

    def sessions(self) -> list[Body]:
        """The namespace's sessions."""
        found: list[Body] = self.server.request("GET", f"{GROUP}/{self.namespace}/callsessions")["items"]
        return found

    def bound(self) -> list[Body]:
        """The statuses of sessions that are bound to a worker."""
        return [item["status"] for item in self.sessions() if item.get("status", {}).get("state") == "Admitted"]

    async def begin(self, status: Body) -> UUID:
        """A worker's word that a bound session's call is live."""
        attempt, context = UUID(status["attempt"]["id"]), self.parts.context
        dialing = DialStore(context.engine, SUBJECTS.ring(self.namespace))
        nonce = uuid4()
        decision = await dialing.begin_dial(attempt, status["podUID"], nonce)
        while decision.verdict == "wait" and decision.retry_at is not None:  # the carrier takes one call a second
            await asyncio.sleep(max(0.0, (decision.retry_at - datetime.now(UTC)).total_seconds()))
            decision = await dialing.begin_dial(attempt, status["podUID"], nonce)
        assert decision.verdict == "go", decision
        await dialing.record_placed(attempt, f"CA{attempt.hex}")
        name = next(item["metadata"]["name"] for item in self.sessions() if item.get("status") == status)
        self.server.patch_status(self.namespace, name, {"state": "InProgress"})
        return attempt

    async def end(self, attempt: UUID) -> None:
        """The call is over and paid, and its session knows."""
        evidence = EndEvidence(source="callback", status="completed", duration_s=70, at=datetime.now(UTC))
        await self.parts.context.dialing.record_ended(attempt, evidence)
        await self.parts.context.ledger.settle(attempt, billed(70))
        await self.parts.see()
        for item in self.parts.context.store.sessions(self.namespace):
            await session.reconcile(self.parts.context, Key("CallSession", self.namespace, item.meta.name))

    def status(self, name: str = SPRING) -> Body:
        """A Campaign's status."""
        found: Body = self.server.request("GET", f"{GROUP}/{self.namespace}/campaigns/{name}")["status"]
        return found

    def condition(self, kind: str, name: str = SPRING) -> tuple[str, str, str]:
        """A condition's status, reason and message."""
        found = next(item for item in self.status(name)["conditions"] if item["type"] == kind)
        return found["status"], found["reason"], found["message"]
