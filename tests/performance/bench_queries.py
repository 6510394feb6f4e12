"""`make bench-queries`: how long the rooms' standard queries take beside millions of calls over three years.

Prints `bench NAME VALUE UNIT GOAL` for each kind of query and for the worst of them. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.integration.books import KEY, SUBJECTS
from tests.performance import machine
from tests.performance.history_load import CAMPAIGNS_EACH, NAMESPACES, HistoryLoad

from callfleet.hostservices import DURABLE, fresh_database, postgres
from callfleet_core.contacts import ContactBook
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.db.replica import Reader
from callfleet_core.history import CallHistory, Cursor
from callfleet_core.ledger import Ledger
from callfleet_core.runs import CampaignRuns, Run

GOAL_MS = 100.0
SEED = 20_261_122
PAGE = 50
LOOK_AHEAD = 200

Query = Callable[[], Awaitable[object]]


@dataclass
class Kind:
    """One standard query, with arguments drawn anew each time."""

    name: str
    query: Query
    rounds_ms: list[list[float]] = field(default_factory=list)

    async def round(self, times: int) -> None:
        """Asks so many times, one after the other."""
        took_ms = []
        for _ in range(times):
            began = time.perf_counter()
            await self.query()
            took_ms.append((time.perf_counter() - began) * 1000)
        self.rounds_ms.append(took_ms)

    @property
    def p99s_ms(self) -> list[float]:
        return [statistics.quantiles(took, n=100)[98] for took in self.rounds_ms]

    @property
    def p99_ms(self) -> float:
        return statistics.median(self.p99s_ms)

    def line(self, name: str) -> str:
        """The p99 of the median round, with the spread of the rounds'."""
        low, high = min(self.p99s_ms), max(self.p99s_ms)
        median = statistics.median(value for took in self.rounds_ms for value in took)
        missed = "" if self.p99_ms <= GOAL_MS else "; ABOVE ITS GOAL"
        return (
            f"bench {name} {self.p99_ms:.1f} ms {GOAL_MS:g}  # {self.name}: {low:.1f}..{high:.1f} in"
            f" {len(self.rounds_ms)} rounds of {len(self.rounds_ms[0])}, median {median:.1f}{missed}"
        )


class Standard:
    """The queries that the rooms make, each on something drawn at random."""

    def __init__(self, url: str, load: HistoryLoad, sealed: list[int]) -> None:
        self._engine = create_engine(url)
        self._load, self._sealed, self._random = load, sealed, random.Random(SEED)  # noqa: S311  # repeatable
        self._history = CallHistory(Reader(self._engine))
        self._ledger = Ledger(self._engine)
        self._runs = CampaignRuns(self._engine, SUBJECTS)
        self._contacts = ContactBook(self._engine, KEY)

    async def close(self) -> None:
        """Ends the connections."""
        await self._engine.dispose()

    def kinds(self) -> list[Kind]:
        """All of them."""
        queries: list[Query] = [
            self.newest_calls_of_a_namespace, self.calls_of_a_campaign_deep_in_the_past, self.a_month_of_a_campaign,
            self.calls_of_a_person, self.one_call, self.a_conversation, self.leads_of_a_person, self.counts_of_a_run,
            self.due_of_a_run, self.gate_of_a_cycle, self.attempts_of_a_cycle, self.unsettled_attempts, self.balances,
        ]  # fmt: skip
        return [Kind(query.__name__, query) for query in queries]

    async def newest_calls_of_a_namespace(self) -> None:
        page = await self._history.page(self._namespace(), limit=PAGE)
        assert page.calls

    async def calls_of_a_campaign_deep_in_the_past(self) -> None:
        span_s = (self._load.last - self._load.first).total_seconds()
        at = self._load.first + timedelta(seconds=self._random.uniform(span_s / 3, span_s))
        page = await self._history.page(
            self._namespace(), campaign=self._campaign(), after=Cursor(at, UUID(int=0)), limit=PAGE
        )
        assert page.calls

    async def a_month_of_a_campaign(self) -> None:
        since = self._load.first + timedelta(days=self._random.randrange(0, 1_000))
        await self._history.page(
            self._namespace(), campaign=self._campaign(), since=since, until=since + timedelta(days=30), limit=PAGE
        )

    async def calls_of_a_person(self) -> None:
        page = await self._history.of_contact(self._load.person(self._call()))
        assert page.calls

    async def one_call(self) -> None:
        assert await self._history.call(_call_id(self._call()))

    async def a_conversation(self) -> None:
        assert await self._history.conversation(_call_id(self._random.choice(self._sealed)), SUBJECTS)

    async def leads_of_a_person(self) -> None:
        await self._history.leads_of(self._load.person(self._call()))

    async def counts_of_a_run(self) -> None:
        assert (await self._runs.counts(self._run())).total

    async def due_of_a_run(self) -> None:
        assert await self._runs.due(self._run(), LOOK_AHEAD)

    async def gate_of_a_cycle(self) -> None:
        people = [(self._load.person(self._call()), "AC" + "0" * 32) for _ in range(LOOK_AHEAD)]
        await self._contacts.refusals(people)

    async def attempts_of_a_cycle(self) -> None:
        person = self._random.randrange(self._load.people)
        names = [f"s-24-{(person + NAMESPACES * step) % self._load.people}" for step in range(LOOK_AHEAD)]
        await self._ledger.latest_attempts(self._load.namespace(person), names)

    async def unsettled_attempts(self) -> None:
        await self._ledger.unsettled_attempts()

    async def balances(self) -> None:
        await self._ledger.balances(datetime.now(UTC))

    def _namespace(self) -> str:
        return f"team-{self._random.randrange(NAMESPACES)}"

    def _campaign(self) -> str:
        return f"campaign-{self._random.randrange(CAMPAIGNS_EACH)}"

    def _run(self) -> Run:
        return Run(self._namespace(), self._campaign(), "r24")

    def _call(self) -> int:
        return self._random.randrange(self._load.calls)


def _call_id(call: int) -> UUID:
    return UUID(hashlib.md5(f"call{call}".encode()).hexdigest())  # noqa: S324  # PostgreSQL's md5, for ids only


async def _measure(url: str, load: HistoryLoad, sealed: list[int], rounds: int, times: int) -> list[str]:
    standard = Standard(url, load, sealed)
    try:
        kinds = standard.kinds()
        for kind in kinds:  # plans and caches get warm
            await Kind(kind.name, kind.query).round(20)
        for _ in range(rounds):
            for kind in kinds:
                await kind.round(times)
    finally:
        await standard.close()
    worst = max(kinds, key=lambda kind: kind.p99_ms)
    return [*(kind.line(f"query_{kind.name}_p99_ms") for kind in kinds), worst.line("query_p99_ms")]


def main(arguments: Sequence[str]) -> None:
    """Starts a server, fills it, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=200, help="each query, in a round")
    options = parser.parse_args(arguments)
    print(f"machine: {machine.description()}; load {machine.load()}", flush=True)  # noqa: T201  # a command's output
    settings = (*DURABLE, "max_wal_size=8GB", "shared_buffers=1GB", "maintenance_work_mem=512MB")
    with postgres(settings=settings) as server, fresh_database(server.url) as url:
        migrate(url)
        load = HistoryLoad.of(options.calls)
        load.fill(url, lambda line: print(f"  {line}", file=sys.stderr, flush=True))  # noqa: T201  # progress
        sealed = random.Random(SEED).sample(range(load.calls), min(300, load.calls))  # noqa: S311  # repeatable
        load.seal_sayings(url, sealed)
        for line in asyncio.run(_measure(url, load, sealed, options.rounds, options.times)):
            print(line)  # noqa: T201  # a command's output


if __name__ == "__main__":
    main(sys.argv[1:])
