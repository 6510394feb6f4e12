"""`make chaos-faults`: what PostgreSQL does to its clients, one fault after the other, and how they come out of it.

Each fault has a primary and a synchronous standby of its own, and a load that asks before, meanwhile and after, through
the same engines. Then the histories are judged as those of `make chaos-ledger` are.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.chaos.battle import quiet
from tests.chaos.check_epochs import check_epochs
from tests.chaos.check_money import check_money
from tests.chaos.check_protocol import check_protocol
from tests.chaos.evidence import collect
from tests.chaos.faults import lock_faults, machine_faults, server_faults
from tests.chaos.faults.load import RESERVED, load
from tests.chaos.faults.servers import Server, copied, folder, new_server, pair, small_disk
from tests.chaos.faults.shim import Machine
from tests.chaos.faults.stage import Fault, Stage
from tests.chaos.proxy import Proxy, proxy
from tests.chaos.world import World, fill

from callfleet_core.db.migrate import migrate

FAULTS: Final[Mapping[str, Fault]] = {
    "restart": server_faults.restart,
    "serialization": lock_faults.serialization_failures,
    "deadlock": lock_faults.deadlocks,
    "pool-empty": server_faults.pool_empty,
    "slow-disk": machine_faults.slow_disk,
    "read-only": server_faults.read_only,
    "disk-full": machine_faults.disk_full,
    "network-cut": machine_faults.network_cut,
    "killed-backend": server_faults.killed_backend,
    "long-lock": lock_faults.long_locks,
    "promoted-standby": server_faults.promoted_standby,
    "clock-skew": machine_faults.clock_skew,
}
RECOVERED_WITHIN_S: Final = 60.0
_BEFORE_S: Final = 1.5
_DISK_MIB: Final = 320
_SHOWN: Final = 12


@dataclass(frozen=True)
class Grounds:
    """A filled cluster that was shut down, to be copied, and the machine that its copies run on."""

    home: Path
    template: Server
    world: World
    machine: Machine


@dataclass(frozen=True)
class Verdict:
    """What came of a fault; `recovered_s` is from its end until nothing failed any more."""

    recovered_s: float
    operations: int
    failures: int
    violations: list[str]
    kept: Path | None


@contextmanager
def grounds() -> Iterator[Grounds]:
    """Makes them."""
    with folder() as home:
        template = new_server(home, "template")
        template.start()
        try:
            migrate(template.url)
            world = asyncio.run(fill(template.url, reserved=RESERVED))
            template.shut_down()
        finally:
            template.stop()
        yield Grounds(home, template, world, Machine(home))


def suffer(where: Grounds, name: str, seed: str) -> Verdict:
    """Lets one fault happen, and judges what came of it."""
    primary = copied(where.template, where.home, f"primary-{name}", env=where.machine.env)
    with ExitStack() as stack:
        stack.callback(where.machine.set)
        standby = None
        if name == "disk-full":
            stack.enter_context(small_disk(primary, _DISK_MIB))
        else:
            standby = stack.enter_context(pair(primary)).standby
        history = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callfleet-faults-")))
        through = stack.enter_context(proxy(primary.port, seed))
        through.cutting = False
        suffering = _Suffering(where, primary, standby, through, history)
        try:
            return asyncio.run(suffering.run(name, seed))
        finally:
            stack.close()
            for server in (primary, *([standby] if standby else [])):
                shutil.rmtree(server.home, ignore_errors=True)


@dataclass
class _Suffering:
    where: Grounds
    primary: Server
    standby: Server | None
    through: Proxy
    history: Path

    async def run(self, name: str, seed: str) -> Verdict:
        parts = urlsplit(self.primary.url)
        host = f"{parts.netloc.rpartition('@')[0]}@{parts.hostname}:{self.through.port}"
        url = parts._replace(netloc=host).geturl()
        async with load(url, self.history, f"{seed}/{name}", self.where.world) as at_work:
            await at_work.probe()
            await asyncio.sleep(_BEFORE_S)
            before = at_work.history.failures
            stage = Stage(self.primary, self.standby, self.where.machine, self.through, at_work)
            began_ns = time.monotonic_ns()
            await FAULTS[name](stage)
            ended = stage.ended_at or time.monotonic()
            recovered_s, problem = await _recover(stage, ended)
            failures = at_work.history.failures - before
        return self._judge(stage, began_ns, int((ended + recovered_s) * 1e9), recovered_s, failures, problem)

    def _judge(
        self, stage: Stage, began_ns: int, over_ns: int, recovered_s: float, failures: int, problem: list[str]
    ) -> Verdict:
        quiet(stage.server.url)
        evidence = collect(self.history, stage.server.url)
        epochs = check_epochs(evidence, lambda o: o.answered_ns >= began_ns and o.invoked_ns <= over_ns)
        violations = [*problem, *epochs, *check_money(evidence), *check_protocol(evidence)]
        kept = None
        if violations:  # to be looked at
            kept = Path(tempfile.mkdtemp(prefix="callfleet-faults-kept-")) / "history"
            shutil.copytree(self.history, kept)
        return Verdict(recovered_s, evidence.count, failures, violations, kept)


async def _recover(stage: Stage, ended: float) -> tuple[float, list[str]]:
    """Seconds from the fault's end until a call went through and nothing failed any more; what is wrong with them."""
    deadline = ended + RECOVERED_WITHIN_S
    try:
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            await stage.load.probe()
    except TimeoutError:
        return RECOVERED_WITHIN_S, [f"no call went through within {RECOVERED_WITHIN_S:.0f} s of the fault's end"]
    probed = time.monotonic()
    if not await stage.load.settled_down(deadline):
        return RECOVERED_WITHIN_S, [f"operations fail {RECOVERED_WITHIN_S:.0f} s after the fault's end"]
    return max(probed, stage.load.history.failed_at) - ended, []


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all by default")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args(arguments)
    names = options.faults or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    violations = 0
    with grounds() as where:
        for name in names:
            verdict = suffer(where, name, options.seed)
            violations += len(verdict.violations)
            _report(name, verdict)
    print(f"faults n={len(names)} violations={violations}")  # noqa: T201  # a command's output
    return int(violations > 0)


def _report(name: str, verdict: Verdict) -> None:
    print(  # noqa: T201  # a command's output
        f"fault {name} recovered_s={verdict.recovered_s:.1f} operations={verdict.operations}"
        f" failed={verdict.failures} violations={len(verdict.violations)}",
        flush=True,
    )
    for line in verdict.violations[:_SHOWN]:
        sys.stderr.write(f"  {line}\n")
    if verdict.kept is not None:
        sys.stderr.write(f"  the load's history is in {verdict.kept}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
