"""`make bench-admission`: sessions a second through the real operator, on a real API server and PostgreSQL.

Prints `bench NAME VALUE UNIT GOAL` for each figure. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tests.integration.apiserver import ApiServer
from tests.performance import machine, peers, usage
from tests.performance.admission_scenarios import bind_p99_ms, failover_s, restart
from tests.performance.admission_world import LOOK_AHEAD, Size, world
from tests.performance.apiclient import ApiClient, api_client
from tests.performance.controlplane import control_plane

from callfleet.hostservices import DURABLE, fresh_database, postgres
from callfleet.parts.api import ensure

GROWTH_FROM = 10_000


@dataclass(frozen=True)
class Measured:
    """One run: how long it took, and what it used."""

    sessions: int
    seconds: float
    cpu_s: Mapping[str, float]
    writes: Mapping[str, float]
    operator_mb: float
    restarts: int

    @property
    def per_s(self) -> float:
        return self.sessions / self.seconds

    @property
    def writes_per_session(self) -> float:
        return sum(self.writes.values()) / self.sessions

    @property
    def events(self) -> int:
        """Kubernetes Events a session."""
        return round(self.writes.get("POST events", 0) / self.sessions)

    @property
    def operator_ms(self) -> float:
        """The operator's CPU a session, in milliseconds."""
        return 1000 * self.cpu_s["operator"] / self.sessions


async def measure(server: ApiServer, url: str, folder: Path, size: Size) -> Measured:
    """A campaign from its creation until nothing of it is left."""
    async with world(server, url, folder, size) as here:
        cpu, writes, began = usage.cpu_s(), usage.writes(server), time.monotonic()
        await here.apply(f"bench-{size.sessions}")
        await here.finished(_Progress(began))
        seconds = time.monotonic() - began
        used, written = usage.between(cpu, usage.cpu_s()), usage.between(writes, usage.writes(server))
        (process,) = here.operators.values()
        peak_mb = usage.peak_mb(process.pid)
        if problems := await here.problems():
            raise SystemExit("the run went wrong: " + "; ".join(problems))
    return Measured(size.sessions, seconds, used, written, peak_mb, here.restarts)


class _Progress:
    """Tells how far a run is, now and then."""

    EVERY_S = 10.0

    def __init__(self, began: float) -> None:
        self._began = self._told = began

    def __call__(self, settled: int, left: int) -> None:
        now = time.monotonic()
        if now - self._told >= self.EVERY_S:
            self._told = now
            _say(f"{now - self._began:.0f} s: {settled} settled, {left} sessions left at most")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _cpu(used_s: Mapping[str, float], count: int) -> str:
    each = ", ".join(f"{name} {1000 * used / count:.2f}" for name, used in list(used_s.items())[:8] if used)
    return f"CPU ms of each: {each}"


def _details(found: Measured) -> list[str]:
    writes = ", ".join(f"{name} {count / found.sessions:.2f}" for name, count in list(found.writes.items())[:12])
    return [
        f"{found.sessions} sessions in {found.seconds:.1f} s, the operator started anew {found.restarts} times",
        f"  {_cpu(found.cpu_s, found.sessions)}",
        f"  writes a session: {writes}",
    ]


@dataclass(frozen=True)
class Goal:
    """What a figure must reach."""

    unit: str
    value: float
    at_least: bool = True


GOALS = {
    "sessions_per_s": Goal("1/s", 50),
    "ratio_vs_jobs": Goal("ratio", 3.5),
    "ratio_vs_bare": Goal("ratio", 0.7),
    "writes_per_session": Goal("writes", 6, at_least=False),
    "cost_growth": Goal("ratio", 1.2, at_least=False),
    "operator_rss_mb": Goal("MB", 400, at_least=False),
    "bind_p99_ms": Goal("ms", 500, at_least=False),
    "restart_first_bind_s": Goal("s", 60, at_least=False),
    "restart_peak_mb": Goal("MB", 900, at_least=False),
    "failover_s": Goal("s", 15, at_least=False),
}


def line(name: str, value: float, note: str, suffix: str = "") -> str:
    """A figure, beside its goal."""
    goal = GOALS[name]
    reached = value >= goal.value if goal.at_least else value <= goal.value
    return (
        f"bench {name}{suffix} {value:.2f} {goal.unit} {goal.value:g}  # {note}{'' if reached else '; MISSES ITS GOAL'}"
    )


def _size(sessions: int) -> str:
    return f"_{sessions // 1000}k" if sessions >= 1000 else f"_{sessions}"


def _of_sizes(runs: Sequence[Measured]) -> Iterator[str]:
    """What all sizes say together, the smallest first; growth is of the operator's CPU a session, from 10,000 on."""
    largest = runs[-1]
    yield line("writes_per_session", largest.writes_per_session, f"at {largest.sessions}")
    if len(runs) > 1:
        base = next((run for run in runs[:-1] if run.sessions >= GROWTH_FROM), runs[0])
        note = f"{base.operator_ms:.1f} ms of the operator's CPU at {base.sessions}, {largest.operator_ms:.1f} then"
        yield line("cost_growth", largest.operator_ms / base.operator_ms, note, _size(largest.sessions))
    yield line("operator_rss_mb", max(run.operator_mb for run in runs), "the peak of all runs")


class Bench:
    """The parts of one benchmark, each on a control plane and a database of its own."""

    def __init__(self, postgres_url: str, home: Path, options: argparse.Namespace) -> None:
        self._postgres_url, self._home, self._options = postgres_url, home, options

    @contextmanager
    def _place(self, name: str) -> Iterator[tuple[ApiServer, str, Path]]:
        folder = self._home / name
        folder.mkdir()
        with control_plane(folder, self._options.part) as server, fresh_database(self._postgres_url) as url:
            yield server, url, folder

    async def figures(self) -> AsyncIterator[str]:
        """A line for each figure, as soon as it is known: a part that fails later takes none of them away."""
        options, runs = self._options, list[Measured]()
        for sessions in sorted(options.sessions):
            with self._place(str(sessions)) as place:
                run = await measure(*place, Size(sessions, options.workers))
            for detail in _details(run):
                _say(detail)
            yield line("sessions_per_s", run.per_s, f"in {run.seconds:.0f} s", _size(sessions))
            runs.append(run)
        for found in _of_sizes(runs):
            yield found
        if options.jobs:
            per_s = await self._peer("jobs", options.jobs, lambda api: peers.jobs_per_s(api, options.jobs))
            yield line("ratio_vs_jobs", runs[-1].per_s / per_s, f"{per_s:.1f} Jobs/s")
        if options.bare:
            events = runs[-1].events
            per_s = await self._peer("bare", options.bare, lambda api: peers.bare_per_s(api, options.bare, events))
            yield line("ratio_vs_bare", runs[-1].per_s / per_s, f"{per_s:.1f}/s without an operator")
        if options.arrivals:
            yield await self._arrivals(runs[-1].per_s / 2)
        if options.restart:
            for found in await self._restart():
                yield found
        if options.failover:
            yield await self._failover()

    async def _peer(self, name: str, count: int, ask: Callable[[ApiClient], Awaitable[float]]) -> float:
        with self._place(name) as (server, _, _):
            async with api_client(server) as api:
                before = usage.cpu_s()
                per_s = await ask(api)
                _say(f"{count} {name} at {per_s:.1f}/s: {_cpu(usage.between(before, usage.cpu_s()), count)}")
                return per_s

    async def _arrivals(self, per_s: float) -> str:
        size = Size(self._options.arrivals, self._options.workers)
        with self._place("arrivals") as place:
            return line("bind_p99_ms", await bind_p99_ms(*place, size, per_s), f"{per_s:.1f} sessions/s arrive")

    async def _restart(self) -> list[str]:
        objects = self._options.restart
        with self._place("restart") as place:
            took_s, peak_mb = await restart(*place, Size(min(objects, LOOK_AHEAD), self._options.workers), objects)
        note = f"{objects} sessions wait"
        return [line("restart_first_bind_s", took_s, note), line("restart_peak_mb", peak_mb, note)]

    async def _failover(self) -> str:
        sessions = self._options.failover
        with self._place("failover") as place:
            took_s = await failover_s(*place, Size(sessions, self._options.workers))
        return line("failover_s", took_s, f"of {sessions} sessions")


def _sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=_sizes, default=[1_000, 10_000, 50_000], help="sizes, with commas")
    parser.add_argument("--workers", type=int, default=50, help="pods of ten slots")
    parser.add_argument("--jobs", type=int, default=2_000, help="Jobs to compare with; 0: none")
    parser.add_argument("--bare", type=int, default=2_000, help="sessions of the loop to compare with; 0: none")
    parser.add_argument("--arrivals", type=int, default=2_000, help="sessions whose binds are timed; 0: none")
    parser.add_argument("--restart", type=int, default=50_000, help="sessions that wait at a restart; 0: none")
    parser.add_argument("--failover", type=int, default=10_000, help="sessions of a failover; 0: none")
    parser.add_argument("--part", default="k8s-optimised", help="which build of Kubernetes (k8s: to try things out)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Starts everything, measures, prints."""
    options = _options(arguments)
    print(f"machine: {machine.description()}; load {machine.load()}", flush=True)  # noqa: T201  # a command's output
    ensure(["debian", options.part, "kwok"])
    with (
        tempfile.TemporaryDirectory(prefix="callfleet-bench-") as home,
        postgres(settings=(*DURABLE, "max_wal_size=4GB")) as database,
    ):
        uvloop.run(_print(Bench(database.url, Path(home), options).figures()))


async def _print(lines: AsyncIterator[str]) -> None:
    async for found in lines:
        print(found, flush=True)  # noqa: T201  # a command's output


if __name__ == "__main__":
    main(sys.argv[1:])
