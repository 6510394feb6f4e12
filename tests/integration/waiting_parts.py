"""What happens while sessions wait: a Campaign is changed, a call is made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text
from tests.integration.books import CONSENT, RING, number
from tests.integration.operator_parts import GROUP, Operator, walk_attempts
from tests.integration.test_admission_queue import MERGE

from callfleet_core.contactlist import Row, read_contacts
from callfleet_core.dialing import DialStore, EndEvidence, EndStatus
from callfleet_operator.objects import Session


def people(*indexes: int) -> Iterator[Row]:
    """A contact list of these people, who all agree to be called."""
    consent = f"{CONSENT.kind},{CONSENT.source},{CONSENT.given_at.isoformat()}"
    lines = (f"{number(index)},{consent}\n" for index in indexes)
    return read_contacts(chain(["phone,consent_kind,consent_source,consent_time\n"], lines))


def shared_budget(namespace: str, total: str) -> dict[str, Any]:
    """A Budget that covers whatever is called in a namespace."""
    meta = {"name": "all", "namespace": namespace}
    spec = {"scope": "Namespace", "limits": {"total": total}}
    return {"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": meta, "spec": spec}


async def change(running: Operator, namespace: str, name: str, spec: dict[str, Any]) -> None:
    """Changes a Campaign, and lets the operator follow."""
    running.server.request("PATCH", f"{GROUP}/{namespace}/campaigns/{name}", {"spec": spec}, MERGE)
    for _ in range(3):
        await running.reconcile(namespace, name)
        await running.tend_sessions(namespace)


async def called(
    running: Operator, namespace: str, sid: str, duration_s: int | None = 70, status: EndStatus = "completed",
    *, meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:  # fmt: skip
    """Whoever is admitted is called, and the carrier says that it is over; it is settled where it can be."""
    context = running.context
    (one,) = [item for item in context.store.sessions(namespace) if item.state == "Admitted"]
    attempt, nonce = UUID(one.status["attempt"]["id"]), uuid4()
    worker = DialStore(context.engine, RING.of_namespace(namespace))
    decision = await worker.begin_dial(attempt, one.status["podUID"], nonce)
    while decision.verdict == "wait" and decision.retry_at is not None:  # the account's pace
        await asyncio.sleep(max(0.0, (decision.retry_at - datetime.now(UTC)).total_seconds()))
        decision = await worker.begin_dial(attempt, one.status["podUID"], nonce)
    assert decision.verdict == "go", decision
    await context.dialing.record_placed(attempt, sid)
    if meanwhile is not None:
        await meanwhile()
    evidence = EndEvidence(source="callback", status=status, duration_s=duration_s, at=datetime.now(UTC))
    await context.dialing.record_ended(attempt, evidence)
    await walk_attempts(context)
    await running.tend_sessions(namespace)


async def ledger(running: Operator, statement: str, **parameters: Any) -> Any:
    """What a query answers first."""
    async with running.context.engine.connect() as connection:
        return (await connection.execute(text(statement), parameters)).scalar()


def states(sessions: list[Session]) -> list[str]:
    """Each session's state, or why it waits."""
    return [item.status.get("reason") or item.state.value for item in sessions]
