"""`make fuzz`: generated specs against a real API server, PostgreSQL, and the operator's own reconcilers."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.fuzz.cases import Case, generate
from tests.fuzz.judge import Judge, Verdict
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.fleet_parts import Fleet, prepare
from tests.integration.operator_parts import operator

from callfleet.hostservices import fresh_database, postgres
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate

HOW = ("created", "changed", "deleted")
SAY_EVERY = 50


@asynccontextmanager
async def judging(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Judge]:
    """A judge over an operator that leads, in a namespace of its own."""
    async with operator(engine, server) as parts:
        judge = Judge(await Fleet.start(parts, server))
        await judge.prepare()
        yield judge


async def judge_all(judge: Judge, cases: Sequence[Case], seed: int) -> AsyncIterator[tuple[Case, str, Verdict]]:
    """Each case, in a way that the seed draws: most are created, the others are changed to or deleted."""
    rng = random.Random(seed)  # noqa: S311 - which way, no secret
    for case in cases:
        how = "created" if case.metadata else rng.choices(HOW, (5, 4, 1))[0]
        yield case, how, await judge.judge(case, how)


async def _run(specs: int, seed: int, only: str) -> int:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home, postgres() as database, api_server(Path(home)) as server:
        prepare(server)
        with fresh_database(database.url) as url:
            migrate(url)
            engine = create_engine(url)
            async with judging(engine, server) as judge:
                cases = [case for case in generate(specs, seed) if only in " ".join(case.fields)]
                async for case, how, verdict in judge_all(judge, cases, seed):
                    counts.update(specs=1, rejected=verdict.rejected, violations=bool(verdict.wrong))
                    for wrong in verdict.wrong:
                        print(f"{case.kind} {how} {' '.join(case.fields)} ({case.what}): {wrong}", flush=True)  # noqa: T201
                    if counts["specs"] % SAY_EVERY == 0:
                        print(f"… {counts['specs']} of {len(cases)}", file=sys.stderr, flush=True)  # noqa: T201
            await engine.dispose()
    print(f"fuzz specs={counts['specs']} rejected={counts['rejected']} violations={counts['violations']}")  # noqa: T201
    return 1 if counts["violations"] else 0


def main() -> int:
    """0 when nothing is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--specs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="cases of fields whose name has this in it")
    options = parser.parse_args()
    return asyncio.run(_run(options.specs, options.seed, options.only))


if __name__ == "__main__":
    sys.exit(main())
