"""The operator's reconcilers over a real PostgreSQL and API server, called one by one; a carrier only where given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio import config
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import ACCOUNT_SID, KEY, RING, SUBJECTS

from callfleet_core.carriers import CarrierRegister, installation_account
from callfleet_core.contacts import ContactBook
from callfleet_core.dialing import DialStore
from callfleet_core.ledger import Ledger
from callfleet_core.pricing import CostCalculator, load_prices
from callfleet_core.privacy import Privacy
from callfleet_core.runs import CampaignRuns
from callfleet_operator.carriers import Carriers
from callfleet_operator.context import Context
from callfleet_operator.kube import Kube
from callfleet_operator.models import Models
from callfleet_operator.objects import KINDS, Key
from callfleet_operator.queue import KeyedQueue
from callfleet_operator.reconcile import attempts, campaign, session, witness
from callfleet_operator.settings import OperatorSettings
from callfleet_operator.store import Store

CARRIER_TOKEN = "a-made-up-token"
GROUP = "/apis/callfleet.dev/v1alpha1/namespaces"


@dataclass
class Queries:
    """What was asked of PostgreSQL."""

    statements: int = 0
    rows: list[int] = field(default_factory=list)

    def clear(self) -> None:
        self.statements = 0
        self.rows.clear()


@dataclass
class Operator:
    """An operator's parts, and what its queries fetched."""

    context: Context
    server: ApiServer
    queries: Queries

    def apply(self, body: dict[str, Any]) -> None:
        """Creates a Campaign or a Budget."""
        path = f"{GROUP}/{body['metadata']['namespace']}/{body['kind'].lower()}s"
        self.server.request("POST", path, body)

    async def see(self) -> None:
        """Lists everything, as an audit does."""
        for kind in KINDS:
            listing = self.context.store.listing(kind)
            async for bodies, version in self.context.kube.pages(kind):
                listing.take(bodies, version)
            listing.end()

    async def reconcile(self, namespace: str, name: str) -> dict[str, Any]:
        """Looks once at a Campaign as it is now; answers it as it is then."""
        await self.see()
        await campaign.reconcile(self.context, Key("Campaign", namespace, name))
        await self.see()
        body: dict[str, Any] = self.server.request("GET", f"{GROUP}/{namespace}/campaigns/{name}")
        return body

    @asynccontextmanager
    async def by_itself(self) -> AsyncIterator[None]:
        """Meanwhile sessions are looked at whenever somebody has asked for it, as the engine does."""
        running = asyncio.create_task(self.context.queue.run())
        yield
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def tend_sessions(self, namespace: str) -> None:
        """Looks at every session until none is being deleted."""
        for _ in range(5):
            await self.see()
            for item in self.context.store.sessions(namespace):
                await session.reconcile(self.context, Key("CallSession", namespace, item.meta.name))
        await self.see()


def campaign_body(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A Campaign that asks one question."""
    agent = {
        "persona": "You are Robin.",
        "llm": {"model": "smollm2"},
        "opening": "Hello.",
        "closing": "Goodbye.",
        "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you interested?"]}],
    }
    return {
        "apiVersion": "callfleet.dev/v1alpha1",
        "kind": "Campaign",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"call": {"from": ["+15550100199"]}, "agent": agent, **spec},
    }


def session_body(name: str, **spec: Any) -> dict[str, Any]:
    """A CallSession, as somebody makes one by hand."""
    return {"apiVersion": "callfleet.dev/v1alpha1", "kind": "CallSession", "metadata": {"name": name}, "spec": spec}


async def until(so: Callable[[], bool], within_s: float = 20.0) -> None:
    """Waits until it is so."""
    async with asyncio.timeout(within_s):
        while not so():  # noqa: ASYNC110  # what is waited for is the world's state, not an event of ours
            await asyncio.sleep(0.05)


async def leading(engine: AsyncEngine, kube: Kube, carrier_url: str = "http://127.0.0.1:9") -> Context:
    """The parts of an operator that has taken the epoch; nothing of the cluster is seen yet."""
    settings = _settings(engine, carrier_url)
    ledger = Ledger(engine)
    await ledger.take_epoch()
    own = installation_account(settings, simulated=True)
    carriers = Carriers(kube, CarrierRegister(engine, lambda: ledger.epoch), own, ("default", "callfleet-carriers"))
    await carriers.start()

    async def look(key: Key) -> None:
        """What else reconcilers ask for is looked at by the test itself; and this only while the queue runs."""
        if key.kind == "CallSession":
            await session.reconcile(context, key)

    context = Context(
        settings=settings,
        store=Store(),
        queue=KeyedQueue(look, 1),
        kube=kube,
        engine=engine,
        ledger=ledger,
        contacts=ContactBook(engine, KEY, lambda: ledger.epoch),
        runs=CampaignRuns(engine, SUBJECTS, lambda: ledger.epoch),
        privacy=Privacy(engine, SUBJECTS),
        subjects=SUBJECTS,
        dialing=DialStore(engine, epoch=lambda: ledger.epoch),
        carriers=carriers,
        costs=CostCalculator(load_prices()),
        models=Models([], None, lambda _: None),
        numbers_wait=False,
    )
    return context


@asynccontextmanager
async def operator(
    engine: AsyncEngine, server: ApiServer, carrier_url: str = "http://127.0.0.1:9", *, knows_database: bool = False
) -> AsyncIterator[Operator]:
    """An operator that leads; nothing runs by itself.

    Databases are of one test, the API server of many: a witness of another database is gone, unless this one is known.
    """
    if not knows_database:
        forget_database(server)
    kube = Kube(await config.new_client_from_config(config_file=str(server.kubeconfig)))
    context = await leading(engine, kube, carrier_url)
    queries = Queries()

    def counted(_connection: Any, cursor: DBAPICursor, *_: Any) -> None:
        queries.statements += 1
        if cursor.description is not None:
            queries.rows.append(cursor.rowcount)

    event.listen(engine.sync_engine, "after_cursor_execute", counted)
    try:
        yield Operator(context, server, queries)
    finally:
        event.remove(engine.sync_engine, "after_cursor_execute", counted)
        await context.carriers.close()
        await context.kube.close()


def forget_database(server: ApiServer) -> None:
    """Removes the witness."""
    path = "/api/v1/namespaces/default/configmaps"
    if any(item["metadata"]["name"] == witness.NAME for item in server.request("GET", path)["items"]):
        server.request("DELETE", f"{path}/{witness.NAME}")


def _settings(engine: AsyncEngine, carrier_url: str) -> OperatorSettings:
    values: dict[str, Any] = dict(_values(engine, carrier_url))
    return OperatorSettings(**values)


def operator_environment(
    engine: AsyncEngine, server: ApiServer, carrier_url: str = "http://127.0.0.1:9"
) -> dict[str, str]:
    """What a process of the operator needs, and nothing of the test's own environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {name.upper(): value for name, value in _values(engine, carrier_url).items()}
    return kept | own | {"KUBECONFIG": str(server.kubeconfig), "CALLFLEET_CARRIER_SIMULATED": "true"}


def _values(engine: AsyncEngine, carrier_url: str) -> dict[str, str]:
    return {
        "database_url": engine.url.render_as_string(hide_password=False),
        "twilio_account_sid": ACCOUNT_SID,
        "twilio_auth_token": CARRIER_TOKEN,
        "callfleet_public_url": "http://127.0.0.1:8",
        "callfleet_carrier_api_base_url": carrier_url,
        "callfleet_hash_key": KEY.decode(),
        "callfleet_encryption_keys": RING.text(),
        "callfleet_namespace": "default",
        "callfleet_worker_image": "worker",
    }


async def walk_attempts(context: Context) -> None:
    """One stretch of the walk, and a look after the calls that it passed, as the engine does both."""
    await attempts.reconcile(context)
    for account_sid in list(context.calls):
        await attempts.look_after_calls(context, Key("Calls", "", account_sid))
