"""One round: a fresh database, a proxy, the clients, whoever harms them, and the verdict."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from tests.chaos import client
from tests.chaos.check_epochs import check_epochs
from tests.chaos.check_money import check_money
from tests.chaos.check_protocol import check_protocol
from tests.chaos.defects import break_database
from tests.chaos.evidence import collect
from tests.chaos.proxy import Proxy, proxy
from tests.chaos.world import World

from callfleet.hostservices import fresh_database

# A commit that was acknowledged must outlive a server that is ended at once; power is not cut here.
SETTINGS: Final = (
    "fsync=off",
    "synchronous_commit=on",
    "full_page_writes=on",
    "max_wal_size=2GB",
    "restart_after_crash=on",
)
# Slower than this is stuck.
_SLOWEST_PER_S: Final = 40
_START_S: Final = 60
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Plan:
    """What a round is to be; `harm` is what happens beside the proxy's cuts, in times a second."""

    seed: str
    operations: int
    clients: int = 8
    defect: str | None = None
    kills_per_s: float = 0.25
    terminations_per_s: float = 0.5
    crashes: int = 1


@dataclass
class Verdict:
    """What came of a round."""

    operations: int
    violations: list[str]
    seconds: float
    harm: Counter[str] = field(default_factory=Counter)
    kept: Path | None = None


class Battle:
    """The running clients of a round, and what is done to them."""

    def __init__(self, plan: Plan, folder: Path, server_url: str, through: Proxy) -> None:
        self._plan, self._folder, self._server_url, self._proxy = plan, folder, server_url, through
        self._random = Random(plan.seed)  # noqa: S311  # a test's choices, not a secret
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.chaos.client"])
        self._done: Any = self._context.RawArray("q", plan.clients)
        self._lives = [0] * plan.clients
        parts = urlsplit(server_url)
        host = f"{parts.netloc.rpartition('@')[0]}@{parts.hostname}:{through.port}"
        self._client_url = parts._replace(netloc=host).geturl()
        self.harm: Counter[str] = Counter()
        self._crash_at = sorted(self._random.uniform(0.2, 0.7) * plan.operations for _ in range(plan.crashes))

    @property
    def done(self) -> int:
        """Operations so far, by all clients."""
        return sum(self._done)

    def fight(self) -> None:
        """Runs until enough was asked. Raises TimeoutError where the clients are stuck."""
        clients = [self._start(index) for index in range(self._plan.clients)]
        deadline = time.monotonic() + _START_S + self._plan.operations / _SLOWEST_PER_S
        try:
            while self.done < self._plan.operations:
                time.sleep(_POLL_S)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.done} operations only: the clients are stuck")
                self._harm(clients)
            self._proxy.cutting = False
            for process in clients:
                process.join(30)
        finally:
            for process in clients:
                process.kill()
                process.join()

    def _start(self, index: int) -> ForkServerProcess:
        life = self._lives[index]
        self._lives[index] += 1
        plan = self._plan
        task = client.Task(
            self._client_url, self._folder, plan.seed, index, life, self._done, plan.operations, plan.defect
        )  # fmt: skip
        process = self._context.Process(target=client.main, args=(task,), name=f"chaos-{task.name}", daemon=True)
        process.start()
        return process

    def _harm(self, clients: list[ForkServerProcess]) -> None:
        for index, process in enumerate(clients):
            if process.exitcode == -signal.SIGKILL:
                clients[index] = self._start(index)
            elif process.exitcode not in {None, 0}:
                raise RuntimeError(
                    f"{process.name} ended by itself, with status {process.exitcode}: see its error above"
                )
        if self._chance(self._plan.kills_per_s):
            victim = self._random.choice(clients)
            victim.kill()
            self.harm["kills"] += 1
        with contextlib.suppress(psycopg.Error):  # the server may be coming up again
            if self._chance(self._plan.terminations_per_s):
                self._backend("CAST(pg_terminate_backend(pid) AS int)")
                self.harm["terminations"] += 1
            if self._crash_at and self.done > self._crash_at[0]:
                self._crash()
                self._crash_at.pop(0)

    def _chance(self, per_s: float) -> bool:
        return self._random.random() < per_s * _POLL_S

    def _crash(self) -> None:
        """Ends a backend by SIGKILL: PostgreSQL ends all others at once and recovers from its log."""
        if pid := self._backend("pid"):
            os.kill(pid, signal.SIGKILL)
            self.harm["crashes"] += 1

    def _backend(self, what: str) -> int:
        """Chooses one of the clients' backends; answers `what` of it, or 0 where there is none."""
        query = sql.SQL(
            "SELECT {} FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name LIKE 'chaos-%' ORDER BY random() LIMIT 1"
        ).format(sql.SQL(what))
        with psycopg.connect(self._server_url, autocommit=True, connect_timeout=5) as connection:
            row = connection.execute(query).fetchone()
        return 0 if row is None else int(row[0])


def battle(plan: Plan, template: str, world: World) -> Verdict:
    """Fights one round in a copy of the database at `template`, and judges it."""
    began = time.monotonic()
    with copy_of(template) as url, tempfile.TemporaryDirectory(prefix="callfleet-chaos-") as name:
        folder = Path(name)
        world.save(folder / "world.json")
        if plan.defect is not None:
            break_database(url, plan.defect)
        with proxy(urlsplit(url).port or 5432, plan.seed) as through:
            fought = Battle(plan, folder, url, through)
            fought.fight()
        quiet(url)
        evidence = collect(folder, url)
        violations = [*check_epochs(evidence), *check_money(evidence), *check_protocol(evidence)]
        if violations and plan.defect is None:  # to be looked at
            kept = shutil.copytree(folder, Path(tempfile.mkdtemp(prefix="callfleet-chaos-kept-")) / "history")
        else:
            kept = None
        return Verdict(evidence.count, violations, time.monotonic() - began, fought.harm + through.cuts, kept)


@contextlib.contextmanager
def copy_of(template: str) -> Iterator[str]:
    """A database like the one at `template`, for the block."""
    with fresh_database(template, prefix="callfleet_chaos") as url:
        name, source = (sql.Identifier(urlsplit(each).path[1:]) for each in (url, template))
        with psycopg.connect(urlsplit(url)._replace(path="/postgres").geturl(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, source))
        yield url


def quiet(url: str) -> None:
    """Waits until no client's backend is at work: a killed client's last statement may still be."""
    query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'chaos-%'" \
        " AND datname = current_database()"  # fmt: skip
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(query).fetchone()
            if row == (0,):
                return
        time.sleep(_POLL_S)
    raise TimeoutError("clients' connections outlived their clients by 30 s")
