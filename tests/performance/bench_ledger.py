"""`make bench-ledger`: holds a second against pgbench's transactions a second, on one server, in turn.

Prints `bench NAME VALUE UNIT GOAL` for each figure, with the spread of its rounds behind. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop
from tests.integration.books import billed
from tests.performance import machine
from tests.performance.ledger_load import ACCOUNTS, LedgerLoad, Rate
from tests.performance.pgbench import Pgbench

from callfleet.hostservices import DURABLE, fresh_database, postgres
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate

# What an admission cycle holds in one go when it is busy; single: one session at a time.
BATCH = 100
GOALS = {"batch": 3.0, "single": 0.5}
SETTLED_AT_MOST = 4_000
SEED = 20_261_122


@dataclass
class Case:
    """Holds in batches of `size`, each in one of `accounts`."""

    name: str
    size: int
    accounts: int
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def line(self) -> str:
        """The case's own line, with what was counted."""
        name = f"ledger_{self.name}_{self.accounts}_accounts_ratio" if self.accounts > 1 else (
            f"ledger_{self.name}_one_account_ratio"
        )  # fmt: skip
        return _bench(name, self.ratio, GOALS[self.name], self._spread())

    def _spread(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        return f"{low:.2f}..{high:.2f} in {len(self.ours)} rounds, {ours:.0f} holds/s to {peer:.0f} transactions/s"


def _bench(name: str, value: float, goal: float, note: str) -> str:
    missed = "" if value >= goal else "; BELOW ITS GOAL"
    return f"bench {name} {value:.2f} ratio {goal:g}  # {note}{missed}"


async def measure(load: LedgerLoad, peer: Pgbench, case: Case, clients: int, seconds: int) -> None:
    """One round: the peer, then ours, of equal length and on the same server."""
    await load.release()
    plan = load.plan(clients, case.size, case.accounts)
    case.peer.append(await asyncio.to_thread(peer.transactions_per_s, seconds))
    rate = await load.hold([load.ledger], plan, seconds)
    case.ours.append(rate.per_s)
    _say(f"{case.name}, {case.accounts} accounts: {_of(rate)} holds/s, pgbench {case.peer[-1]:.0f}/s")


def _of(rate: Rate) -> str:
    return f"{rate.per_s:.0f}"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def bench(url: str, peer: Pgbench, options: argparse.Namespace) -> list[str]:
    """All rounds of all cases, after one that is not counted; answers the lines to print."""
    engine = create_engine(url)
    try:
        _say(f"filling the books with {options.people} people")
        load = await LedgerLoad.fill(engine, options.people, SEED)
        cases = [
            Case(name, size, accounts) for name, size in (("batch", BATCH), ("single", 1)) for accounts in (1, ACCOUNTS)
        ]
        for case in cases:  # plans, caches and indexes get warm
            await measure(load, peer, Case(case.name, case.size, case.accounts), options.clients, 1)
        for _ in range(options.rounds):
            for case in cases:
                await measure(load, peer, case, options.clients, options.seconds)
        settled = await load.settle(options.clients, billed(59), SETTLED_AT_MOST)
        if problems := await load.problems():
            raise SystemExit("the books are wrong: " + "; ".join(problems))
        return [*_report(cases), f"ledger settles, one by one: {settled.per_s:.0f}/s (no goal)"]
    finally:
        await engine.dispose()


def _report(cases: Sequence[Case]) -> list[str]:
    lines = [case.line() for case in cases]
    for name, goal in GOALS.items():
        worst = min((case for case in cases if case.name == name), key=lambda case: case.ratio)
        lines.append(_bench(f"ledger_{name}_ratio", worst.ratio, goal, f"the worse of its two; {worst._spread()}"))
    return lines


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="how long each side of a round runs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--people", type=int, default=96_000, help="how many can be held for in a round")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Starts a server with fsync, measures, prints."""
    options = _options(arguments)
    print(f"machine: {machine.description()}; load {machine.load()}")  # noqa: T201  # a command's output
    with (
        postgres(settings=(*DURABLE, "max_wal_size=4GB")) as server,
        fresh_database(server.url) as ours,
        fresh_database(server.url) as theirs,
    ):
        migrate(ours)
        peer = Pgbench(theirs, options.clients)
        peer.fill()
        for line in uvloop.run(bench(ours, peer, options)):  # as the operator runs
            print(line)  # noqa: T201  # a command's output


if __name__ == "__main__":
    main(sys.argv[1:])
