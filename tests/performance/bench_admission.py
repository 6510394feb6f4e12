"""`make bench-admission`: sessions a second through the real operator, on a real API server and PostgreSQL.

Prints `bench NAME VALUE UNIT GOAL` for each figure. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from tests.integration.apiserver import ApiServer
from tests.performance import machine, usage
from tests.performance.admission_world import Size, world
from tests.performance.controlplane import control_plane

from callfleet.hostservices import DURABLE, fresh_database, postgres
from callfleet.parts.api import ensure


@dataclass(frozen=True)
class Measured:
    """One run: how long it took, and what it used."""

    sessions: int
    seconds: float
    cpu_s: Mapping[str, float]
    writes: Mapping[str, float]
    operator_mb: float

    @property
    def per_s(self) -> float:
        return self.sessions / self.seconds

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
    return Measured(size.sessions, seconds, used, written, peak_mb)


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


def _report(found: Measured) -> list[str]:
    note = f"{found.sessions} in {found.seconds:.1f} s"
    cpu = ", ".join(f"{name} {1000 * used / found.sessions:.2f}" for name, used in list(found.cpu_s.items())[:8])
    writes = ", ".join(f"{name} {count / found.sessions:.2f}" for name, count in list(found.writes.items())[:12])
    return [
        f"sessions_per_s at {note}: {found.per_s:.1f}",
        f"  CPU ms a session: {cpu}",
        f"  writes a session: {sum(found.writes.values()) / found.sessions:.2f}: {writes}",
        f"  operator's peak: {found.operator_mb:.0f} MB",
    ]


async def bench(postgres_url: str, home: Path, options: argparse.Namespace) -> list[str]:
    """All sizes, one after the other, each on a control plane of its own."""
    lines: list[str] = []
    for sessions in options.sessions:
        folder = home / str(sessions)
        folder.mkdir()
        with control_plane(folder, options.part) as server, fresh_database(postgres_url) as url:
            found = await measure(server, url, folder, Size(sessions, options.workers))
        lines += _report(found)
    return lines


def _sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=_sizes, default=[1_000, 10_000, 50_000], help="sizes, with commas")
    parser.add_argument("--workers", type=int, default=50, help="pods of ten slots")
    parser.add_argument("--part", default="k8s-optimised", help="which build of Kubernetes (k8s: to try things out)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Starts everything, measures, prints."""
    options = _options(arguments)
    print(f"machine: {machine.description()}; load {machine.load()}")  # noqa: T201  # a command's output
    ensure(["debian", options.part, "kwok"])
    with (
        tempfile.TemporaryDirectory(prefix="callfleet-bench-") as home,
        postgres(settings=(*DURABLE, "max_wal_size=4GB")) as database,
    ):
        for line in uvloop.run(bench(database.url, Path(home), options)):
            print(line)  # noqa: T201  # a command's output


if __name__ == "__main__":
    main(sys.argv[1:])
