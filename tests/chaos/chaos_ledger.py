"""`make chaos-ledger` and `make chaos-ledger-defects`: the ledger under real clients, of whom none is safe.

Clients ask, through a proxy that cuts their connections; some are killed, their backends are ended, the server crashes.
What they were told is then compared with the database. A batch of holds counts by its items.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.chaos.battle import SETTINGS, Plan, Verdict, battle, copy_of
from tests.chaos.defects import DEFECTS
from tests.chaos.model.beside import run_beside
from tests.chaos.world import World, fill

from callfleet.hostservices import fresh_database, postgres
from callfleet_core.db.migrate import migrate

# So that a history fits into memory, and a round's books are read in seconds.
A_ROUND = 50_000
EXAMPLES = 400
DEFECT_OPERATIONS = 12_000
_SHOWN = 12


@contextmanager
def template() -> Iterator[tuple[str, World]]:
    """A server of our own, and a filled database to copy: nobody else's server is crashed."""
    with postgres(settings=SETTINGS) as server, fresh_database(server.url, prefix="callfleet_chaos_template") as url:
        migrate(url)
        yield url, asyncio.run(fill(url))


def fight(operations: int, seed: str, clients: int, machine: int) -> int:
    """The state machine, then rounds until so many operations are done; answers the exit status."""
    done = violations = number = 0
    harm: Counter[str] = Counter()
    began = time.monotonic()
    with template() as (url, world):
        violations += not _agrees(url, machine, seed)
        while done < operations:
            plan = Plan(f"{seed}/{number}" if "/" not in seed else seed, min(A_ROUND, operations - done), clients)
            verdict = battle(plan, url, world)
            _report(plan, verdict)
            done, violations, number = done + verdict.operations, violations + len(verdict.violations), number + 1
            harm += verdict.harm
    _say(f"{_listed(harm)}; {done / (time.monotonic() - began):.0f} operations/s")
    print(f"chaos operations={done} violations={violations}")  # noqa: T201  # a command's output
    return int(violations > 0)


def _agrees(template_url: str, examples: int, seed: str) -> bool:
    """Whether PostgreSQL answers as the model does, in so many examples; where it does not, the shortest is told."""
    began = time.monotonic()
    try:
        with copy_of(template_url) as url:
            operations = run_beside(url, examples, seed=seed) if examples else 0
    except Exception:  # noqa: BLE001  # whatever differs, or fails, is a violation, and the battle is fought all the same
        _say(traceback.format_exc())
        return False
    _say(f"machine: {operations} operations in {examples} examples, {time.monotonic() - began:.0f} s; all as the model")
    return True


def _report(plan: Plan, verdict: Verdict) -> None:
    rate = verdict.operations / verdict.seconds
    _say(f"round {plan.seed}: {verdict.operations} operations, {rate:.0f}/s; {_listed(verdict.harm)}")
    for line in verdict.violations[:_SHOWN]:
        _say(f"  {line}")
    if verdict.violations:
        _say(f"  the clients' histories are in {verdict.kept}")
        _say(f"  {len(verdict.violations)} in all: make chaos-ledger SEED={plan.seed} OPERATIONS={plan.operations}")


def show_defects(names: Sequence[str], operations: int, seed: str, clients: int) -> int:
    """A round for each deliberate defect; answers the exit status."""
    caught = 0
    with template() as (url, world):
        for name in names:
            verdict = battle(Plan(f"{seed}/{name}", operations, clients, name, crashes=0), url, world)
            caught += bool(verdict.violations)
            first = verdict.violations[0] if verdict.violations else "NOT CAUGHT"
            _say(f"defect {name}: {len(verdict.violations)} violations in {verdict.operations}; {first}")
    print(f"chaos defects={len(names)} caught={caught}")  # noqa: T201  # a command's output
    return int(caught < 0.95 * len(names))


def _listed(harm: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(harm.items()))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=None, help="a batch counts by its items")
    parser.add_argument("--seed", default="1", help="a run's, or with its /number a round's, as it was printed")
    parser.add_argument("--machine", type=int, default=EXAMPLES, help="examples of the state machine; 0: none")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--defects", nargs="*", metavar="NAME", help="show that these (or all) defects are caught")
    options = parser.parse_args(arguments)
    if options.defects is None:
        return fight(options.operations or 1_000_000, options.seed, options.clients, options.machine)
    names = options.defects or DEFECTS
    return show_defects(names, options.operations or DEFECT_OPERATIONS, options.seed, options.clients)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
