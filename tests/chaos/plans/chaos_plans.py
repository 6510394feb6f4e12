"""`make chaos`: the operator under faults, plan by plan, compared with a run without them.

What is finished is kept by commit and seed, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import structlog
from tests.chaos.api.real import RealApi
from tests.chaos.plans.database import Databases, databases
from tests.chaos.plans.drawing import plans
from tests.chaos.plans.faults import Fault
from tests.chaos.plans.play import Plan, Result, play
from tests.chaos.plans.workflows import WORKFLOWS
from tests.integration.apiserver import ApiServer, api_server

from callfleet.interrupts import Interrupts

_SHOWN = 6
_DEAD_WITHIN_S = 5.0
_databases: Databases
_references: dict[str, Result]


@dataclass(frozen=True)
class Verdict:
    """What came of a plan, as it is kept."""

    plan: str
    wrong: list[str]
    struck: bool
    revoked: dict[str, int]
    virtual_s: float
    cpu_s: float


def plan_of(name: str) -> Plan:
    """The plan of a name."""
    workflow, _, fault = name.partition("/")
    if not fault:
        return Plan(workflow)
    kind, moment, at = fault.split("-")
    return Plan(workflow, Fault(kind, int(at), "after" if moment == "after" else "before"))


def _verdict(name: str, server: ApiServer | None = None) -> Verdict:
    plan = plan_of(name)
    try:
        with closing(RealApi(server)) if server else nullcontext() as api:
            result = play(plan, _databases, _references.get(plan.workflow) if plan.fault else None, api)
    except Exception:  # noqa: BLE001  # a world that breaks is a violation
        return Verdict(name, [traceback.format_exc()[-1500:]], struck=True, revoked={}, virtual_s=0.0, cpu_s=0.0)
    if plan.fault is None:
        _references[plan.workflow] = result
    return Verdict(
        name, result.wrong, result.struck, result.revoked, round(result.virtual_s, 1), round(result.cpu_s, 2)
    )


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def _serve(tasks: Any, results: Any, references: bytes, *, real: bool) -> None:
    """A process that plays what it is given, each with servers of its own."""
    global _databases, _references  # a process has one of each
    _quiet()
    _references = pickle.loads(references)  # noqa: S301  # made by this run
    with Interrupts(), ExitStack() as stack:
        _databases = stack.enter_context(databases())
        server = _api_server(stack) if real else None
        for name in iter(tasks.get, None):
            results.put(_verdict(name, server))


def _api_server(stack: ExitStack) -> ApiServer:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="callfleet-apiserver-"))
    return stack.enter_context(api_server(Path(folder)))


def references_of(workflows: Sequence[str], opened: Databases) -> dict[str, Result]:
    """Each workflow without a fault."""
    return {name: play(Plan(name), opened) for name in workflows}


def _played(names: Sequence[str], references: dict[str, Result], processes: int, *, real: bool) -> Iterator[Verdict]:
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    for name in [*names, *[None] * processes]:
        tasks.put(name)
    given = pickle.dumps(references)
    players = [
        context.Process(target=_serve, args=(tasks, results, given), kwargs={"real": real}) for _ in range(processes)
    ]
    with ExitStack() as stack:
        for player in players:
            player.start()
            stack.callback(_end, player)
        for _ in names:
            yield _next(results, players)
        for player in players:
            player.join()


def _next(results: Any, players: Sequence[SpawnProcess]) -> Verdict:
    """The next verdict. Raises RuntimeError when a player died, whose plan would be waited for without end."""
    while not any(player.exitcode for player in players):
        with suppress(queue.Empty):
            verdict: Verdict = results.get(timeout=_DEAD_WITHIN_S)
            return verdict
    raise RuntimeError("a player died; start again, what is done is kept")


def _end(player: SpawnProcess) -> None:
    """Ends one that is still at work, with its servers."""
    if player.is_alive():
        player.terminate()
    player.join()


def _kept(seed: str, *, real: bool) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callfleet" / "chaos"
    root.mkdir(parents=True, exist_ok=True)
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True)
    return root / f"{commit.stdout.strip()}-{seed}{'-real' if real else ''}.jsonl"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _show(verdict: Verdict, *, real: bool) -> None:
    if verdict.wrong:
        target = "chaos-real" if real else "chaos"
        _say(f"{verdict.plan}: {len(verdict.wrong)} violations; replay: make {target} PLAN={verdict.plan}")
        for line in verdict.wrong[:_SHOWN]:
            _say(f"  {line}")


def fight(count: int, seed: str, workflows: Sequence[str], processes: int, *, resume: bool, real: bool) -> int:
    """Plays so many plans; answers the exit status."""
    _quiet()
    began, kept = time.monotonic(), _kept(seed, real=real)
    if not resume:
        kept.unlink(missing_ok=True)
    done = {}
    if kept.exists():
        done = {item["plan"]: Verdict(**item) for item in map(json.loads, kept.read_text().splitlines())}
    with databases() as opened:
        references = references_of(workflows, opened)
    wrong = {name: result.wrong for name, result in references.items() if result.wrong}
    for name, lines in wrong.items():
        _show(Verdict(name, lines, struck=False, revoked={}, virtual_s=0.0, cpu_s=0.0), real=False)
    names = [plan.name for plan in plans(references, count, seed)]
    left = [name for name in names if name not in done]
    _say(f"{len(names)} plans of {len(workflows)} workflows, {len(names) - len(left)} played before")
    with kept.open("a") as file:
        for number, verdict in enumerate(_played(left, references, processes, real=real), start=1):
            done[verdict.plan] = verdict
            file.write(json.dumps(asdict(verdict)) + "\n")
            file.flush()
            _show(verdict, real=real)
            if number % 50 == 0:
                _say(f"{number} of {len(left)} plans, {(time.monotonic() - began) / number:.2f} s each")
    return _sum_up([done[name] for name in names], len(wrong), began)


def _sum_up(verdicts: Sequence[Verdict], broken: int, began_s: float) -> int:
    bad = sum(bool(item.wrong) for item in verdicts) + broken
    missed = sum(not item.struck for item in verdicts)
    took_s = time.monotonic() - began_s
    _say(f"{sum(sum(item.revoked.values()) for item in verdicts)} grants taken back and held anew;"
         f" {missed} faults were never met; {took_s:.0f} s")  # fmt: skip
    print(f"chaos plans={len(verdicts)} violations={bad}")  # noqa: T201  # a command's output
    return int(bad > 0)


def replay(name: str, *, real: bool) -> int:
    """Plays one plan again and tells all that is wrong, beside the operator's log."""
    global _databases, _references  # a process has one of each
    _references = {}
    with ExitStack() as stack:
        _databases = stack.enter_context(databases())
        _quiet()
        _verdict(plan_of(name).workflow)
        structlog.reset_defaults()
        verdict = _verdict(name, _api_server(stack) if real else None)
    for line in verdict.wrong:
        _say(f"  {line}")
    print(f"chaos plans=1 violations={int(bool(verdict.wrong))}")  # noqa: T201  # a command's output
    return int(bool(verdict.wrong))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=1500)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--plan", help="play this one again, as it was printed")
    parser.add_argument("--workflows", nargs="*", default=list(WORKFLOWS), choices=list(WORKFLOWS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--real", action="store_true", help="on a real API server; references are the model's")
    options = parser.parse_args(arguments)
    with Interrupts():
        if options.plan:
            return replay(options.plan, real=options.real)
        return fight(
            options.plans, options.seed, options.workflows, options.processes, resume=options.resume, real=options.real
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
