"""The engine: events into the store, keys into the queue, reconcilers out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.carriers import CarrierRegister, installation_account
from callfleet_core.contacts import ContactBook
from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore
from callfleet_core.errors import StaleEpochError
from callfleet_core.hashkey import assert_hash_key
from callfleet_core.ledger import Ledger
from callfleet_core.pricing import CostCalculator, load_prices
from callfleet_core.privacy import Privacy
from callfleet_core.recovery import DatabaseReplacedError
from callfleet_core.runs import CampaignRuns
from callfleet_operator.carriers import Carriers
from callfleet_operator.context import Context
from callfleet_operator.kube import ConflictError, Kube
from callfleet_operator.objects import Key
from callfleet_operator.queue import KeyedQueue
from callfleet_operator.reconcile import (
    admission,
    attempts,
    bill,
    budget,
    campaign,
    carrier,
    contacts,
    installation,
    pool,
    records,
    recovery,
    session,
    witness,
)
from callfleet_operator.settings import OperatorSettings
from callfleet_operator.store import KINDS, Store

WORKERS = 8
AUDIT_EVERY_S = 30.0

# What is done again and again, in the order of the first time.
_JOBS: Mapping[str, tuple[float, Callable[[Context], Awaitable[None]]]] = {
    "Recovery": (recovery.EVERY_S, recovery.reconcile),
    "Installation": (installation.EVERY_S, installation.reconcile),
    "Records": (records.EVERY_S, records.reconcile),
    "Bill": (bill.EVERY_S, bill.reconcile),
    "ContactLists": (contacts.LISTS_EVERY_S, contacts.follow_lists),
    "Attempts": (attempts.EVERY_S, attempts.reconcile),
    "Admission": (admission.EVERY_S, admission.reconcile),
}

_log = structlog.get_logger(__name__)


class Engine:
    """One leading operator. `start` takes a new epoch, then lists freshly, then plans."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._engine: AsyncEngine | None = None
        self._context: Context | None = None

    @property
    def is_healthy(self) -> bool:
        """False once a part of the engine has died; the pod is restarted then."""
        return bool(self._tasks) and all(not task.done() for task in self._tasks)

    async def start(self) -> None:
        """Opens everything and begins to work."""
        settings = self._settings
        engine = self._engine = create_engine(
            settings.database_url.get_secret_value(), application="callfleet-operator"
        )
        subjects = settings.subjects
        async with engine.begin() as connection:
            await assert_hash_key(connection, subjects)
        queue: KeyedQueue[Key] = KeyedQueue(self._work, WORKERS)
        ledger = Ledger(engine)
        kube = await Kube.connect()
        carriers = Carriers(
            kube,
            CarrierRegister(engine, lambda: ledger.epoch),
            installation_account(settings, simulated=settings.callfleet_carrier_simulated),
            (settings.callfleet_namespace, settings.callfleet_carriers_secret),
        )
        context = self._context = Context(
            settings=settings,
            store=Store(),
            queue=queue,
            kube=kube,
            engine=engine,
            ledger=ledger,
            contacts=ContactBook(engine, subjects.hash_key, lambda: ledger.epoch),
            runs=CampaignRuns(engine, subjects, lambda: ledger.epoch),
            privacy=Privacy(engine, subjects),
            subjects=subjects,
            dialing=DialStore(engine),
            carriers=carriers,
            costs=CostCalculator(load_prices()),
        )
        await context.contacts.allow(settings.allowlist)
        await context.ledger.take_epoch()
        await witness.begin(context)
        _log.info("leading", epoch=context.ledger.epoch)
        await carriers.start()
        await self._audit(context)
        await self._revoke_unbound(context)
        await self._enqueue_unlisted(context)
        for kind in _JOBS:
            queue.add(Key(kind))
        self._tasks = [
            asyncio.create_task(queue.run(), name="queue"),
            asyncio.create_task(self._audit_forever(context), name="audit"),
        ]

    async def stop(self) -> None:
        """Stops admission; live calls go on without us."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._context is not None:
            await self._context.carriers.close()
            await self._context.kube.close()
        if self._engine is not None:
            await self._engine.dispose()

    async def on_event(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """Takes one watch event in."""
        context = self._context
        if context is None:
            return
        key = context.store.apply(kind, body, deleted=event == "DELETED")
        if key is None:
            return
        self._enqueue(context, key)
        if event == "DELETED" and key.kind == "CallSession":
            context.queue.add(Key("Campaign", key.namespace, (body.get("spec") or {}).get("campaign", "")))

    def _enqueue(self, context: Context, key: Key) -> None:
        if key.kind == "Pod":
            context.queue.add(Key("Admission"))
            for pod in context.store.pods(key.namespace):
                context.queue.add(Key("Pool", key.namespace, pod.pool))
            return
        context.queue.add(key)
        if key.kind == "CallSession":
            found = context.store.session(key.namespace, key.name)
            if found is not None:
                owner = Key("Campaign", key.namespace, found.spec.campaign)
                context.queue.add_after(owner, campaign.STATUS_EVERY_S)
            context.queue.add(Key("Admission"))

    async def _work(self, key: Key) -> None:
        context = self._context
        if context is None:
            return
        try:
            await self._dispatch(context, key)
        except ConflictError:
            context.queue.add_after(key, 0.2)  # the watch brings the newer object meanwhile
        except (StaleEpochError, DatabaseReplacedError) as error:
            # Whatever is remembered is of another time, or of another database: the process starts again.
            _log.error("deposed", error=str(error))
            for task in self._tasks:
                task.cancel()

    async def _dispatch(self, context: Context, key: Key) -> None:
        match key.kind:
            case "Campaign":
                await campaign.reconcile(context, key)
            case "Carrier":
                await carrier.reconcile(context, key)
            case "Budget":
                await budget.reconcile(context, key)
                if context.store.budget(key.namespace, key.name) is not None:
                    context.queue.add_after(key, budget.STATUS_EVERY_S)
            case "CallSession":
                await session.reconcile(context, key)
            case "Pool":
                await pool.reconcile(context, key)
            case _:
                every_s, job = _JOBS[key.kind]
                context.queue.add_after(key, every_s)
                await job(context)

    async def _audit_forever(self, context: Context) -> None:
        while True:
            await asyncio.sleep(AUDIT_EVERY_S)
            try:
                await self._audit(context)
            except Exception as error:  # noqa: BLE001  # an API server that is away for a while must not end the audit
                _log.warning("audit failed", error=repr(error)[:300])

    async def _audit(self, context: Context) -> None:
        """Lists everything: a re-list of a watch does not tell what vanished meanwhile."""
        for kind in KINDS:
            bodies, version = await context.kube.list_objects(kind)
            for key in context.store.replace(kind, bodies, version):
                self._enqueue(context, key)

    async def _revoke_unbound(self, context: Context) -> None:
        """Grants of an earlier epoch that no listed session names were never bound: their money returns now."""
        for attempt in await context.ledger.unsettled_attempts():
            named = context.store.names_attempt(attempt.namespace, attempt.session_name, str(attempt.id))
            if attempt.state != "granted" or named:
                continue
            if await context.ledger.revoke(attempt.id, "NewEpoch") == "revoked":
                _log.info("grant revoked", attempt=str(attempt.id), reason="NewEpoch")

    async def _enqueue_unlisted(self, context: Context) -> None:
        """What was deleted while nobody watched is closed in PostgreSQL, too: its reconciler finds no object."""
        for namespace, name in await context.contacts.open_campaigns():
            if context.store.campaign(namespace, name) is None:
                context.queue.add(Key("Campaign", namespace, name))
        for balance in await context.ledger.balances():
            if (
                balance.kind == "Budget"
                and not balance.closed
                and context.store.budget(balance.namespace, balance.name) is None
            ):
                context.queue.add(Key("Budget", balance.namespace, balance.name))
