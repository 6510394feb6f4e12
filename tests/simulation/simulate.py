"""`make simulate`: days of campaigns in virtual time, one a seed; what a seed does wrong once, it does again."""

# ruff: noqa: T201  # a command's output

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.simulation.defects import DEFECTS, put
from tests.simulation.world import Outcome, live

# Seeds of a whole run, and how many of them are done again with ten times as many contacts.
WHOLE, LARGE, LARGE_CONTACTS = 500, 20, 5_000
SEEDS_OF_A_DEFECT, CONTACTS_OF_A_DEFECT = 12, 60


def run(days: Sequence[tuple[int, int]], processes: int) -> Iterator[Outcome]:
    """Lives days (seed, contacts), the largest first; yields them as they end."""
    order = sorted(days, key=lambda day: -day[1])
    if processes == 1:
        for seed, contacts in order:
            yield live(seed, contacts)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(live, seed, contacts) for seed, contacts in order]):
            yield done.result()


def caught(name: str, seeds: int = SEEDS_OF_A_DEFECT, contacts: int = CONTACTS_OF_A_DEFECT) -> tuple[int, str] | None:
    """The first seed that finds a defect, and what it says; None: none of them does."""
    with put(name):
        for seed in range(1, seeds + 1):
            violations = live(seed, contacts).violations
            if violations:
                return seed, violations[0]
    return None


def main() -> int:
    """The exit code: 0 without violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=WHOLE)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--contacts", type=int, default=500)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--defects", action="store_true", help="how many deliberate defects are found")
    options = parser.parse_args()
    if options.defects:
        return _defects(options.processes)
    days = [(seed, options.contacts) for seed in range(options.seed, options.seed + options.seeds)]
    if options.seeds >= WHOLE:
        days += [(seed, LARGE_CONTACTS) for seed in range(options.seed, options.seed + LARGE)]
    return _simulate(days, min(options.processes, len(days)))


def _simulate(days: Sequence[tuple[int, int]], processes: int) -> int:
    began, violations, totals = time.monotonic(), 0, Counter[str]()
    for number, outcome in enumerate(run(days, processes), start=1):
        violations += len(outcome.violations)
        totals.update(dials=outcome.dials, calls=outcome.calls, events=outcome.events, contacts=outcome.contacts)
        totals.update(f"fault-{name}" for name, count in outcome.faults.items() if count)
        _tell(outcome)
        if number % 50 == 0 or number == len(days):
            print(f"{number} of {len(days)} days, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(" ".join(f"{name}={count}" for name, count in totals.items() if not name.startswith("fault-")))
    print(
        "days with " + ", ".join(f"{k.removeprefix('fault-')}: {n}" for k, n in totals.items() if k.startswith("fault"))
    )
    if len(days) == 1:
        print(f"history {outcome.digest}")
    print(f"simulation seeds={len(days)} violations={violations}")
    return 1 if violations else 0


def _tell(outcome: Outcome) -> None:
    if not outcome.violations:
        return
    print(f"seed {outcome.seed}: again by `make simulate SEED={outcome.seed} SEEDS=1 CONTACTS={outcome.contacts}`")
    for text in outcome.violations:
        print(f"    {text}")
    print("    the end of its history:\n" + "\n".join(f"        {line}" for line in outcome.recent), flush=True)


def _defects(processes: int) -> int:
    missed = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for name, found in zip(DEFECTS, pool.map(caught, DEFECTS), strict=True):
            missed += found is None
            print(f"{name}: " + ("NOT FOUND" if found is None else f"seed {found[0]}: {found[1]}"), flush=True)
    print(f"defects={len(DEFECTS)} found={len(DEFECTS) - missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
