"""A seed's day from its beginning to its end: everything is made, faults are sown, time passes, the end is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import structlog
from tests.simulation.clock import VirtualLoop
from tests.simulation.exchange import Exchange
from tests.simulation.kubernetes import Cluster
from tests.simulation.meddling import Meddler
from tests.simulation.operator import Operator, Servers
from tests.simulation.patrol import EVERY_S, Patrol
from tests.simulation.referee import Referee, RefereedBooks
from tests.simulation.scenario import DAY_S, NAMESPACE, Scenario, scenario
from tests.simulation.workers import Fleet

from callfleet_core.api import API_VERSION
from callfleet_operator.plan import lookahead

# People who wait for something of their own have sessions beside lookAhead: of 500 contacts, a few meet the bound.
ASIDE_AT_MOST: Final = 30
# After the day everything is suspended, and what is open comes to its end: the longest call, its watchdogs, its price.
ENDING_S: Final = 3_600


@dataclass(frozen=True)
class Outcome:
    """What became of a seed."""

    seed: int
    contacts: int
    violations: list[str]
    digest: str
    events: int
    dials: int
    calls: int
    done: int
    faults: dict[str, int]
    recent: tuple[str, ...] = ()


class World:
    """All that there is on that day."""

    def __init__(self, chosen: Scenario, loop: VirtualLoop) -> None:
        self.scenario, self.loop = chosen, loop
        chances, manners = chosen.chances, chosen.carrier
        self.cluster = Cluster(loop.now)
        self.books = RefereedBooks(loop.now, chosen.people, manners.calls_per_second)
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self.exchange = Exchange(self.books, manners, chances, self.begin)
        self.fleet = Fleet(self.cluster, self.books, self.exchange, chances.of("workers"), self.begin)
        self.servers = Servers(loop, chosen, self.cluster, self.books, self.exchange, chances.of("servers"))
        self.referee = self.books.referee = Referee(
            self.cluster,
            chosen.people,
            chosen.campaigns,
            chosen.zones,
            manners.calls_per_second,
            manners.max_concurrent,
        )
        self.patrol = Patrol(self.servers, self.referee, chosen.campaigns)
        self.servers.failed = lambda what: self.referee.wrong(loop.now(), f"a reconciler failed: {what}")
        self.servers.happened = lambda: self.referee.events
        self.operators: list[Operator] = []

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins something that goes on beside everything else; what fails in it ends the run."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def lead(self) -> None:
        """A new operator, which takes the lead."""
        operator = Operator(self.servers)
        self.operators.append(operator)
        operator.begin()

    async def live(self) -> None:
        """The day, and its end."""
        self._apply()
        self.lead()
        meddler = Meddler(self)
        meddler.sow()
        await self._pass(DAY_S)
        meddler.calm()
        await self._pass(ENDING_S)
        self.patrol.finish()
        for operator in self.operators:
            operator.kill()
        for task in list(self.tasks):
            task.cancel()

    async def _pass(self, seconds: float) -> None:
        end_s = self.loop.time() + seconds
        while self.loop.time() < end_s:
            await asyncio.sleep(min(EVERY_S, end_s - self.loop.time()))
            if all(operator.is_over for operator in self.operators):
                self.loop.call_later(self.scenario.chances.of("restarts").uniform(1, 30), self.lead_alone)
            self.patrol.look()
            if self.failures:
                raise self.failures[0]

    def lead_alone(self) -> None:
        """A new operator where there is none any more."""
        if all(operator.is_over for operator in self.operators):
            self.lead()

    def _apply(self) -> None:
        """What the user applies in the beginning."""
        now = self.loop.now()
        for kind, specs in (("Budget", self.scenario.budgets), ("Campaign", self.scenario.campaigns)):
            for name, spec in specs.items():
                body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
                self.referee.wishes.limits[f"{kind}/{name}"].append((now, spec["limits"]))
                self.cluster.create(kind, NAMESPACE, body)


def live(seed: int, contacts: int, change: Callable[[World], None] | None = None) -> Outcome:
    """Runs a seed's day; `change` is done to the world before it begins."""
    chosen = scenario(seed, contacts)
    loop = VirtualLoop(chosen.beginning)
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    try:
        asyncio.set_event_loop(loop)
        world = World(chosen, loop)
        if change is not None:
            change(world)
        with patch.object(lookahead, "ASIDE_AT_MOST", ASIDE_AT_MOST):
            loop.run_until_complete(world.live())
            loop.run_until_complete(asyncio.sleep(0))
        return _outcome(world, contacts)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        structlog.configure(**before)


def _outcome(world: World, contacts: int) -> Outcome:
    referee = world.referee
    return Outcome(
        seed=world.scenario.seed,
        contacts=contacts,
        violations=referee.violations,
        digest=referee.digest,
        events=referee.events,
        dials=sum(referee.dials.values()),
        calls=len(world.exchange.calls),
        done=sum(world.books.done.values()),
        faults=vars(world.scenario.faults),
        recent=tuple(referee.recent) if referee.violations else (),
    )
