"""The operator: its own engine, queue, reconcilers and planners, with the simulation's servers behind its clients."""

# ruff: noqa: ARG002  # the signatures are those of the classes in whose place these stand

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.simulation.books import ACCOUNT, Books
from tests.simulation.clock import VirtualLoop
from tests.simulation.database import (
    MemoryContacts,
    MemoryDialing,
    MemoryLedger,
    MemoryPrivacy,
    MemoryRecovery,
    MemoryRuns,
    Way,
)
from tests.simulation.exchange import Exchange, MemoryCarrier, MemoryCarriers, OutageError
from tests.simulation.kubernetes import Body, Cluster, MemoryKube
from tests.simulation.scenario import Scenario

from callfleet_core.carriers import CarrierAccount
from callfleet_core.pricing import CostCalculator, load_prices
from callfleet_core.recovery import RecoveryBook
from callfleet_core.runs import Run
from callfleet_operator.context import Context
from callfleet_operator.engine import EXPECTED, WORKERS, Engine, is_one_of_many
from callfleet_operator.models import Models
from callfleet_operator.objects import Key, parse_time
from callfleet_operator.plan.limits import wanted_in_force
from callfleet_operator.plan.model import ModelState
from callfleet_operator.queue import KeyedQueue
from callfleet_operator.settings import OperatorSettings
from callfleet_operator.store import Store

# Jobs of other stores than the ledger: nothing here is restored, billed, kept for years, in a file, or in a Secret.
_LEFT_OUT: Final = frozenset({"Recovery", "Records", "Bill", "ContactFiles", "Logins"})
# What looks at many things comes at most this often, however much happens, and so often while nothing does.
_PAUSES_S: Final[Mapping[str, float]] = {
    "Admission": 6.0, "Attempts": 8.0, "Pool": 15.0, "Budget": 30.0, "Installation": 30.0, "ContactLists": 60.0,
    "Models": 15.0, "Campaign": 5.0,
}  # fmt: skip
QUIET_S: Final = 240.0
_TINY_S: Final = 0.001
AUDIT_EVERY_S: Final = 120.0
PULL_S: Final = 180.0


@dataclass
class Servers:
    """What outlives every operator."""

    loop: VirtualLoop
    scenario: Scenario
    cluster: Cluster
    books: Books
    exchange: Exchange
    dice: Random
    left: dict[Run, dict[int, int]] = field(default_factory=dict)
    witness: dict[str, UUID | None] = field(default_factory=lambda: {"now": None, "before": None})
    pulled_at: dict[str, datetime] = field(default_factory=dict)
    # Views of the cluster come so much later than usual.
    view_delay_s: float = 0.0
    # Told of a reconciler that fails: nothing here gives it a reason to.
    failed: Callable[[str], None] = print
    # How many things have happened beside the cluster's versions.
    happened: Callable[[], int] = int
    prices: CostCalculator = field(default_factory=lambda: CostCalculator(load_prices()))

    def revision(self) -> tuple[int, ...]:
        """Another one whenever anything has changed."""
        return self.cluster.version, self.books.epoch, self.happened()


class MemoryModels(Models):
    """Models that take a while to be pulled."""

    def __init__(self, servers: Servers, changed: Callable[[str], None]) -> None:
        self._sim, self._changed = servers, changed

    def of(self, model: str) -> ModelState:
        there = self._sim.pulled_at.get(model)
        return ModelState(ready=there is not None and there <= self._sim.loop.now())

    def is_new(self, model: str) -> bool:
        return False

    async def look(self, wanted: Iterable[str]) -> None:
        for model in sorted(set(wanted)):
            if model not in self._sim.pulled_at:
                self._sim.pulled_at[model] = datetime.max.replace(tzinfo=self._sim.loop.now().tzinfo)
                self._sim.loop.call_later(PULL_S, self._there, model)

    def _there(self, model: str) -> None:
        self._sim.pulled_at[model] = self._sim.loop.now()
        self._changed(model)


class SimulatedContext(Context):
    """A context whose database knows that it is itself."""

    witness: dict[str, UUID | None]

    @property
    def recovery(self) -> RecoveryBook:
        return MemoryRecovery(self.witness)


class Operator(Engine):
    """One operator, from its lead to its end. A killed one remembers nothing, nor do its clients."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(_settings(), self._is_deposed)
        self.servers, self.is_over = servers, False
        self._view_until_s = 0.0
        self._instants: tuple[tuple[int, ...], list[float]] | None = None
        self._looked: dict[Key, tuple[float, tuple[int, ...]]] = {}

    def begin(self) -> None:
        """Watches, and leads."""
        self._context = self._make()
        self._tasks = [
            self.servers.loop.create_task(self._audit_forever(self._context)),
            self.servers.loop.create_task(self._lead(self._context)),
        ]
        self.servers.cluster.watchers.append(self._watch)

    def kill(self) -> None:
        """Ends it wherever it is."""
        if not self.is_over:
            self._end()

    def _is_deposed(self) -> None:
        self.is_over = True
        if self._watch in self.servers.cluster.watchers:
            self.servers.cluster.watchers.remove(self._watch)

    def _make(self) -> Context:
        servers, way = self.servers, Way(self.servers.dice)
        ledger = MemoryLedger(servers.books, way)

        def epoch() -> int:
            return ledger.epoch

        context = SimulatedContext(
            settings=self._settings, store=Store(), queue=KeyedQueue(self._work, WORKERS, is_one_of_many, EXPECTED),
            kube=MemoryKube(servers.cluster, way), engine=_no_engine(), ledger=ledger,
            contacts=MemoryContacts(servers.books, way, epoch),
            runs=MemoryRuns(servers.books, servers.scenario.lists, servers.left, epoch),
            privacy=MemoryPrivacy(servers.books), subjects=self._settings.subjects,
            dialing=MemoryDialing(servers.books, way, epoch),
            carriers=MemoryCarriers(_account(servers.scenario), MemoryCarrier(servers.exchange, way)),
            costs=servers.prices, models=MemoryModels(servers, self._model_changed), now=servers.loop.now,
        )  # fmt: skip
        context.witness = servers.witness
        return context

    def _watch(self, kind: str, event: str, body: Body) -> None:
        """An event comes a moment later, in its order."""
        servers = self.servers
        delay_s = servers.dice.uniform(0.01, 0.2) + servers.view_delay_s
        self._view_until_s = max(self._view_until_s, servers.loop.time() + delay_s)
        servers.loop.call_at(self._view_until_s, self._see, kind, event, body)

    def _see(self, kind: str, event: str, body: Mapping[str, Any]) -> None:
        if self.is_over:
            return
        seeing = self.on_event(kind, event, body)
        try:
            seeing.send(None)
        except StopIteration:
            return
        raise RuntimeError("an event waits for something")

    async def _work(self, key: Key) -> None:
        try:
            await super()._work(key)
        except (OutageError, *EXPECTED):
            raise  # the carrier is away, or another wrote first: the queue asks again
        except Exception as error:
            self.servers.failed(f"{key.kind}: {error!r}")
            raise

    async def _dispatch(self, context: Context, key: Key) -> None:
        if key.kind in _LEFT_OUT:
            return
        left_s = self._rests_s(context, key)
        if left_s > 0:
            context.queue.add_after(key, left_s)
            return
        self._looked[key] = self.servers.loop.time(), self.servers.revision()
        await super()._dispatch(context, key)

    def _rests_s(self, context: Context, key: Key) -> float:
        """How long a look at everything still waits: a day has 43,200 cycles, most of which would find nothing new.

        While something happens, for its own pause; while nothing does, until the next instant that anybody waits for.
        """
        pause_s, known = _PAUSES_S.get(key.kind), self._looked.get(key)
        if pause_s is None or known is None or self._is_outdated(context, key):
            return 0.0
        looked_s, revision = known
        due_s = looked_s + pause_s
        if revision == self.servers.revision() and not (key.kind == "Attempts" and self.servers.books.has_open()):
            due_s = max(due_s, min(looked_s + QUIET_S, self._next_instant_s(context, looked_s)))
        left_s = due_s - self.servers.loop.time()
        return left_s if left_s > _TINY_S else 0.0

    def _is_outdated(self, context: Context, key: Key) -> bool:
        """A Budget that was changed, or has a new day, is put in force at once."""
        if key.kind != "Budget":
            return False
        budget = context.store.budget(key.namespace, key.name)
        return budget is None or context.in_force.get(key) != wanted_in_force(budget, context.now())

    def _next_instant_s(self, context: Context, after_s: float) -> float:
        """When a session is to be tried again, or a window ends, first after that moment of the loop."""
        known = self._instants
        if known is None or known[0] != self.servers.revision():
            known = self._instants = self.servers.revision(), self._instants_s(context)
        return min((each for each in known[1] if each > after_s), default=after_s + QUIET_S)

    def _instants_s(self, context: Context) -> list[float]:
        beginning = self.servers.scenario.beginning
        told = (session.status.get("retryAt") for session in context.store.sessions() if not session.is_terminal)
        instants = [parse_time(text) for text in told if text is not None]
        instants += [each.window.end for each in self.servers.books.accounts.values() if each.window.end is not None]
        return [(instant - beginning).total_seconds() + 1 for instant in instants]

    async def _audit_forever(self, context: Context) -> None:
        while True:
            await asyncio.sleep(AUDIT_EVERY_S)
            await self._audit(context)


def _no_engine() -> AsyncEngine:
    """Nobody may ask it: whatever is not simulated fails loudly."""
    return AsyncEngine.__new__(AsyncEngine)


def _account(scenario: Scenario) -> CarrierAccount:
    return CarrierAccount(
        ACCOUNT, SecretStr("token"), "http://127.0.0.1:9", "http://127.0.0.1:8", simulated=True,
        calls_per_second=scenario.carrier.calls_per_second, max_concurrent=scenario.carrier.max_concurrent,
    )  # fmt: skip


def _settings() -> OperatorSettings:
    values: dict[str, Any] = {
        "database_url": "postgresql://nobody@127.0.0.1:9/none",
        "callfleet_hash_key": "0" * 32,
        "callfleet_encryption_keys": "1:" + "A" * 43 + "=",
        "callfleet_namespace": "callfleet",
        "callfleet_worker_image": "worker",
        "twilio_account_sid": ACCOUNT,
        "twilio_auth_token": "token",
        "callfleet_public_url": "http://127.0.0.1:8",
        "callfleet_carrier_api_base_url": "http://127.0.0.1:9",
        "callfleet_carrier_simulated": True,
    }
    return OperatorSettings(**values)
