"""The engine: events into the store, keys into the queue, reconcilers out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.carriers import CarrierRegister, installation_account
from callfleet_core.contacts import ContactBook
from callfleet_core.dialing import DialStore
from callfleet_core.errors import StaleEpochError
from callfleet_core.hashkey import assert_hash_key
from callfleet_core.ledger import Ledger
from callfleet_core.pricing import CostCalculator, load_prices
from callfleet_core.privacy import Privacy
from callfleet_core.recovery import DatabaseReplacedError
from callfleet_core.runs import CampaignRuns
from callfleet_operator.apiserver import ConflictError
from callfleet_operator.audit import audit
from callfleet_operator.carriers import Carriers
from callfleet_operator.context import Context
from callfleet_operator.lease import Lease
from callfleet_operator.metrics import LEADING
from callfleet_operator.objects import KINDS, Key
from callfleet_operator.outside import Outside
from callfleet_operator.patience import until_there
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
    logins,
    models,
    pool,
    records,
    recovery,
    session,
    witness,
)
from callfleet_operator.reconcile.pods import pool_keys
from callfleet_operator.settings import OperatorSettings
from callfleet_operator.store import Store
from callfleet_operator.watches import Watches

WORKERS = 16
# The watch brings the newer object, which asks for a look at once.
EXPECTED = (ConflictError,)
AUDIT_EVERY_S = 30.0
# An audit of 50,000 sessions takes some ten seconds: no more than a tenth of the time is spent on them.
AUDIT_SHARE = 0.1
LONGEST_AUDIT_PAUSE_S = 300.0
# Who begins alone lists first and watches then; whatever it waits for, it watches before its watches count as dead.
BEGIN_WITHIN_S = 45.0

# What is done again and again, in the order of the first time.
_JOBS: Mapping[str, tuple[float, Callable[[Context], Awaitable[None]]]] = {
    "Recovery": (recovery.EVERY_S, recovery.reconcile),
    "Installation": (installation.EVERY_S, installation.reconcile),
    "Logins": (logins.EVERY_S, logins.reconcile),
    "Models": (models.EVERY_S, models.reconcile),
    "Records": (records.EVERY_S, records.reconcile),
    "Bill": (bill.EVERY_S, bill.reconcile),
    "ContactLists": (contacts.LISTS_EVERY_S, contacts.follow_lists),
    "ContactFiles": (contacts.EVERY_S, contacts.follow_files),
    "Attempts": (attempts.EVERY_S, attempts.reconcile),
    "Admission": (admission.EVERY_S, admission.reconcile),
}

_log = structlog.get_logger(__name__)


def is_one_of_many(key: Key) -> bool:
    """Of sessions there may be tens of thousands; what concerns all does not wait for each of them."""
    return key.kind == "CallSession"


class Engine:
    """One operator. It watches from the start, and works while it leads: a new epoch, a fresh list, then plans.

    `on_deposed` is called when it leads no more. It has no way back: whoever follows starts anew.
    """

    def __init__(
        self, settings: OperatorSettings, on_deposed: Callable[[], None], outside: Outside | None = None
    ) -> None:
        self._settings = settings
        self._outside = outside or Outside()
        self._on_deposed = on_deposed
        self._tasks: list[asyncio.Task[None]] = []
        self._leads = False
        self._engine: AsyncEngine | None = None
        self._context: Context | None = None
        self._watches = Watches()
        self._lease: Lease | None = None
        self._placed = asyncio.Event()
        self._auditing = asyncio.Lock()

    @property
    def is_healthy(self) -> bool:
        """False once a part of the engine, or a watch, has died; the pod is restarted then."""
        running = bool(self._tasks) and all(not task.done() for task in self._tasks)
        stands = self._lease is not None and self._lease.is_alive
        return running and stands and not self._watches.dead(asyncio.get_running_loop().time())

    async def start(self) -> None:
        """Opens everything, begins to watch, and stands for the lead."""
        outside, settings = self._outside, self._settings
        context = self._context = await self._open()
        await until_there(lambda: self._look(context))
        self._tasks = [asyncio.create_task(self._audit_forever(context), name="audit")]
        self._lease = outside.lease(outside.connect, settings.callfleet_namespace, settings.identity)
        self._lease.start(lambda: self._taken(context), self._deposed, self._placed.set)

    async def placed(self, within_s: float = BEGIN_WITHIN_S) -> None:
        """Waits until it has begun to lead, or another one does; `within_s` seconds at most.

        A leader's own list and the watches' first one, both at once, would each take twice as long, and who leads
        needs its own one first. Who stands by has time.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._placed.wait(), within_s)

    async def _look(self, context: Context) -> None:
        """The first look at both: is it our database, and does the API server know our kinds?

        What there is the watches tell, and whoever leads lists it: 50,000 sessions are not read twice.
        """
        async with context.engine.begin() as connection:
            await assert_hash_key(connection, context.subjects)
        for kind in KINDS:
            async for _ in context.kube.pages(kind):
                break

    async def _open(self) -> Context:
        settings, subjects, outside = self._settings, self._settings.subjects, self._outside
        costs = CostCalculator(load_prices(settings.callfleet_prices_file))  # told before anything is opened
        engine = self._engine = outside.database(settings)
        ledger = Ledger(engine)
        kube = await outside.connect()
        carriers = Carriers(
            kube,
            CarrierRegister(engine, lambda: ledger.epoch),
            installation_account(settings, simulated=settings.callfleet_carrier_simulated),
            (settings.callfleet_namespace, settings.callfleet_carriers_secret),
            outside.carrier,
        )
        return Context(
            settings=settings,
            store=Store(),
            queue=KeyedQueue(self._work, WORKERS, is_one_of_many, EXPECTED),
            kube=kube,
            engine=engine,
            ledger=ledger,
            contacts=ContactBook(engine, subjects.hash_key, lambda: ledger.epoch),
            runs=CampaignRuns(engine, subjects, lambda: ledger.epoch),
            privacy=Privacy(engine, subjects),
            subjects=subjects,
            dialing=DialStore(engine, epoch=lambda: ledger.epoch),
            carriers=carriers,
            costs=costs,
            models=outside.models(settings, self._model_changed),
            now=outside.now,
        )

    def _model_changed(self, model: str) -> None:
        """Who asks for a model says what became of it."""
        context = self._context
        if context is not None and self._leads:
            for campaign in context.store.campaigns():
                if campaign.spec.agent.llm.model == model:
                    context.queue.add(Key("Campaign", campaign.meta.namespace, campaign.meta.name))

    def _taken(self, context: Context) -> None:
        self._tasks.append(asyncio.create_task(self._lead(context), name="lead"))

    def _deposed(self) -> None:
        _log.error("the lease is lost: another operator may lead")
        self._end()

    def _end(self) -> None:
        """Stops all work at once; live calls go on without us."""
        self._leads = False
        self._placed.set()
        for task in self._tasks:
            task.cancel()
        self._on_deposed()

    async def _lead(self, context: Context) -> None:
        try:
            await self._begin(context)
        except Exception as error:  # noqa: BLE001  # whatever it was: one that cannot lead must make room for another
            _log.error("cannot lead", error=repr(error)[:500])
            self._end()
            return
        self._placed.set()
        await context.queue.run()

    async def _begin(self, context: Context) -> None:
        """Takes a new epoch, lists freshly, and asks for everything to be looked at."""
        await context.ledger.take_epoch()
        await witness.begin(context)
        _log.info("leading", epoch=context.ledger.epoch, identity=self._settings.identity)
        LEADING.set(1)
        await context.contacts.allow(self._settings.allowlist)
        await context.carriers.start()
        await logins.look(context)
        self._leads = True
        await self._audit(context)
        await self._revoke_unbound(context)
        await self._enqueue_unlisted(context)
        for kind in _JOBS:
            context.queue.add(Key(kind))
        for key in context.store.all_keys():
            self._enqueue(context, key)

    async def stop(self) -> None:
        """Stops admission and lets another lead; live calls go on without us."""
        self._leads = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lease is not None:
            await self._lease.stop()
        if self._context is not None:
            await self._context.carriers.close()
            await self._context.models.close()
            await self._context.kube.close()
        if self._engine is not None:
            await self._engine.dispose()

    async def on_event(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """Takes one watch event in."""
        context = self._context
        if context is None:
            return
        self._watches.saw(kind, int(body["metadata"]["resourceVersion"]))
        key = context.store.apply(kind, body, deleted=event == "DELETED")
        if key is None or not self._leads:
            return
        self._enqueue(context, key)
        if event == "DELETED" and key.kind == "CallSession":
            context.look_soon(Key("Campaign", key.namespace, (body.get("spec") or {}).get("campaign", "")))

    def _enqueue(self, context: Context, key: Key) -> None:
        if key.kind == "Pod":
            context.queue.add(Key("Admission"))
            for pool_key in pool_keys(context, key.namespace):
                context.queue.add(pool_key)
            return
        context.queue.add(key)
        if key.kind == "CallSession":
            found = context.store.session(key.namespace, key.name)
            if found is not None:
                context.queue.add_after(found.owner, campaign.STATUS_EVERY_S)
            context.look_soon(Key("Admission"))

    async def _work(self, key: Key) -> None:
        context = self._context
        if context is None:
            return
        try:
            await self._dispatch(context, key)
        except (StaleEpochError, DatabaseReplacedError) as error:
            # Whatever is remembered is of another time, or of another database: the process starts again.
            _log.error("deposed", error=str(error))
            self._end()

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
            case "Calls":
                await attempts.look_after_calls(context, key)
            case "Pool":
                await pool.reconcile(context, key)
            case _:
                every_s, job = _JOBS[key.kind]
                context.queue.add_after(key, every_s)
                await job(context)

    async def _audit_forever(self, context: Context) -> None:
        loop, pause_s = asyncio.get_running_loop(), AUDIT_EVERY_S
        while True:
            await asyncio.sleep(pause_s)
            if self._auditing.locked():
                continue  # a new leader lists everything at this moment
            began_s = loop.time()
            try:
                await self._audit(context)
            except Exception as error:  # noqa: BLE001  # an API server that is away for a while must not end the audit
                _log.warning("audit failed", error=repr(error)[:300])
            pause_s = min(LONGEST_AUDIT_PAUSE_S, max(AUDIT_EVERY_S, (loop.time() - began_s) * (1 / AUDIT_SHARE - 1)))

    async def _audit(self, context: Context) -> None:
        def take(keys: Iterable[Key]) -> None:
            if self._leads:
                for key in keys:
                    self._enqueue(context, key)

        async with self._auditing:
            await audit(context.kube, context.store, self._watches, take)

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
        for balance in await context.ledger.balances(context.now()):
            if (
                balance.kind == "Budget"
                and not balance.closed
                and context.store.budget(balance.namespace, balance.name) is None
            ):
                context.queue.add(Key("Budget", balance.namespace, balance.name))
