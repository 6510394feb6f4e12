"""Running the machine with PostgreSQL beside it: in `make test`, and before the battle of `make chaos-ledger`."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.chaos.model.machine import LedgerMachine
from tests.chaos.model.postgres import Postgres
from tests.chaos.model.protocol import Protocol

from callfleet_core.db.engine import create_engine

STEPS = 40


def run_beside(url: str, examples: int, *, seed: str | None = None, shrink: bool = True) -> int:
    """Runs examples on the migrated database at `url`, by the seed or always the same; answers how many operations
    were asked.

    Raises what Hypothesis raises where the two differ, with the steps: with `shrink` the fewest that it finds in five
    minutes.
    """
    with asyncio.Runner() as runner:
        engine = create_engine(url, pool_size=4)
        asked = 0

        class Beside(LedgerMachine):
            """The machine, with PostgreSQL asked the same."""

            def ready(self) -> None:
                self.other = Postgres(engine, runner.run)
                self.books = Protocol(self.other.begin())

            def ask(self, name: str, *args: Any) -> Any:
                nonlocal asked
                asked += 1
                return super().ask(name, *args)

        try:
            machine = Beside if seed is None else hypothesis.seed(seed)(Beside)
            chosen = settings(profile(examples, shrink=shrink), derandomize=seed is None)
            run_state_machine_as_test(machine, settings=chosen)
        finally:
            runner.run(engine.dispose())
    return asked


def profile(examples: int, steps: int = STEPS, *, shrink: bool = True) -> settings:
    """The same examples each time."""
    phases = set(Phase) if shrink else set(Phase) - {Phase.shrink, Phase.explain}
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        print_blob=False, phases=phases, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
