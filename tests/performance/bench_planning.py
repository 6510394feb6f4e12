"""How long one look at a long queue takes: `python -m tests.performance.bench_planning --sessions 5000`.

A real PostgreSQL, and a store as the watches would have filled it. Prints the median of the rounds, in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kubernetes_asyncio.client import ApiClient
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import CONSENT, NAMESPACE, number
from tests.integration.operator_parts import campaign_body, leading
from tests.performance import machine

from callfleet.hostservices import fresh_database, postgres
from callfleet_core.contacts import ContactIn
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.runs import Run
from callfleet_operator import manifests
from callfleet_operator.context import Context
from callfleet_operator.kube import Kube
from callfleet_operator.plan.admission import Admit, plan_admissions
from callfleet_operator.reconcile import installation
from callfleet_operator.reconcile.admission import put_limits_in_force
from callfleet_operator.reconcile.campaign import set_limits
from callfleet_operator.reconcile.snapshot import take_snapshot

SLOTS, PODS = 10, 20


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--campaigns", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    sys.stdout.write(f"# {machine.description()}; load {machine.load()}\n")
    with postgres() as server, fresh_database(server.url) as url:
        migrate(url)
        asyncio.run(_measure(url, given.sessions, given.campaigns, given.rounds))


async def _measure(url: str, sessions: int, campaigns: int, rounds: int) -> None:
    engine = create_engine(url)
    context = await _waiting(engine, sessions, campaigns)
    try:
        await put_limits_in_force(context)
        await installation.reconcile(context)
        attempts = await context.ledger.open_attempts()
        snapshot, *_ = await take_snapshot(context, attempts)
        admitted = sum(isinstance(item, Admit) for item in plan_admissions(snapshot, context.now()))
        sys.stdout.write(f"# {len(snapshot.pending)} sessions of {campaigns} campaigns, {admitted} would be admitted\n")

        async def plan() -> None:
            plan_admissions(snapshot, context.now())

        await _time("put_limits_in_force", rounds, lambda: put_limits_in_force(context))
        await _time("take_snapshot", rounds, lambda: take_snapshot(context, attempts))
        await _time("plan_admissions", rounds, plan)
    finally:
        await context.carriers.close()
        await context.kube.close()
        await engine.dispose()


async def _time(name: str, rounds: int, work: Callable[[], Awaitable[object]]) -> None:
    """The wall's clock, and the operator's own CPU, which others on this machine change little."""
    took_ms, cpu_ms = [], []
    for _ in range(rounds):
        began, cpu_began = time.perf_counter(), time.process_time()
        await work()
        took_ms.append((time.perf_counter() - began) * 1000)
        cpu_ms.append((time.process_time() - cpu_began) * 1000)
    spread = f"{min(took_ms):.1f}..{max(took_ms):.1f} in {rounds} rounds"
    sys.stdout.write(
        f"bench {name} {statistics.median(took_ms):.1f} ms -  # {spread}, {statistics.median(cpu_ms):.1f} ms of CPU\n"
    )


async def _waiting(engine: AsyncEngine, sessions: int, campaigns: int) -> Context:
    """An operator whose campaigns have all their people waiting, and a few free slots."""
    context = await leading(engine, Kube(ApiClient()))  # never asked
    each = sessions // campaigns
    for place in range(campaigns):
        name = f"campaign-{place}"
        body = campaign_body(
            NAMESPACE, name, contacts={"listRef": {"name": "people"}}, worker={"slotsPerWorker": SLOTS}
        )
        context.store.apply("Campaign", _stored(body, 1 + place))
        campaign = context.store.campaign(NAMESPACE, name)
        assert campaign is not None
        await set_limits(context, campaign, context.now())
        run = Run(NAMESPACE, name, "1")
        people = [ContactIn(number(1000 + place * each + index), None, CONSENT) for index in range(each)]
        await context.runs.load(run, people)
        for index, contact in enumerate(await context.runs.due(run, each)):
            uid = 100_000 + place * each + index
            context.store.apply("CallSession", _stored(manifests.session(campaign, contact, None), uid))
    pool = manifests.pool_name(context.store.campaigns()[0].spec, context.pool_defaults)
    for place in range(PODS):
        context.store.apply("Pod", _pod(pool, 900_000 + place))
    async with engine.begin() as connection:
        await connection.execute(text("ANALYZE"))
    return context


def _stored(body: dict[str, Any], version: int) -> dict[str, Any]:
    """An object as the API server would have it."""
    created = datetime(2026, 11, 22, 9, tzinfo=UTC).isoformat()
    server = {"uid": str(UUID(int=version)), "resourceVersion": str(version), "creationTimestamp": created}
    return {**body, "metadata": {**body["metadata"], **server}}


def _pod(pool: str, version: int) -> dict[str, Any]:
    meta = {"namespace": NAMESPACE, "name": f"{pool}-{version}", "labels": {"callfleet.dev/pool": pool}}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return _stored({"metadata": meta, "status": status}, version)


if __name__ == "__main__":
    main()
