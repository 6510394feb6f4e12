"""One run of a campaign: real PostgreSQL, API server and operator process; the workers alone are pretended."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer, free_port
from tests.integration.books import ACCOUNT_SID, CONSENT, RING, SUBJECTS, number
from tests.integration.operator_parts import GROUP, campaign_body, operator_environment
from tests.performance.apiclient import ApiClient, api_client
from tests.performance.pretend_workers import PretendWorkers

from callfleet_core.contactlist import Row, read_contacts
from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.dialing import DialStore
from callfleet_core.ledger import Ledger
from callfleet_core.lists import ContactLists

NAMESPACE, LIST, BUDGET = "default", "everybody", "enough"
LOOK_AHEAD = 5_000
START_TIMEOUT_S = 120.0
POLL_S = 0.5
# Nothing has ended for so long: the run is stuck, and says with what.
STUCK_S = 120.0
_LEFT_BEHIND = (
    "/apis/coordination.k8s.io/v1/namespaces/default/leases/callfleet-operator",
    "/api/v1/namespaces/default/configmaps/callfleet-ledger-witness",
)
# A carrier's account takes 100 calls a second at most, which is not what is measured here.
_NO_PACE = """
CREATE FUNCTION no_pace() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.calls_per_second := 10000; RETURN NEW; END';
CREATE TRIGGER no_pace BEFORE INSERT OR UPDATE ON carrier_accounts FOR EACH ROW EXECUTE FUNCTION no_pace();
"""
_SECRETS = ("callfleet-worker", "callfleet-installation-carrier")


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    sessions: int
    workers: int
    slots: int = 10


@dataclass
class World:
    """A database, an operator, workers; `size` people to call."""

    server: ApiServer
    api: ApiClient
    engine: AsyncEngine
    size: Size
    folder: Path
    workers: PretendWorkers
    operators: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    # How often an operator had ended by itself, and was started anew as a pod would be.
    restarts: int = 0
    _keepers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start_operator(self, identity: str) -> None:
        """A real operator, as kopf runs it, and started anew when it ends by itself."""
        await self._spawn(identity)
        self._keepers.append(asyncio.create_task(self._keep(identity)))

    async def _keep(self, identity: str) -> None:
        while identity in self.operators:
            await self.operators[identity].wait()
            if identity in self.operators:
                self.restarts += 1
                await self._spawn(identity)

    async def _spawn(self, identity: str) -> None:
        environment = operator_environment(self.engine, self.server) | {
            "CALLFLEET_IDENTITY": identity, "CALLFLEET_METRICS_PORT": str(free_port()),
            "CALLFLEET_CARRIER_CALLS_PER_SECOND": "100", "CALLFLEET_CARRIER_MAX_CONCURRENT": "100000",
        }  # fmt: skip
        with (self.folder / f"{identity}.log").open("ab") as log:
            self.operators[identity] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kopf", "run", "--all-namespaces", "-m", "callfleet_operator.main",
                f"--liveness=http://127.0.0.1:{free_port()}/healthz",
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    async def leads(self) -> None:
        """Waits until an operator has taken an epoch and put the carrier in force."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await self.sql("SELECT count(*) FROM carrier_accounts WHERE account_sid = :sid", sid=ACCOUNT_SID):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no operator leads; its log is in {self.folder}")
            await asyncio.sleep(0.1)

    async def apply(self, campaign: str, **spec: Any) -> None:
        """Creates the campaign over everybody."""
        limits = {"currency": "USD", "timeZone": "UTC", "limits": {"total": "900000000"}}
        budget = {
            "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
            "metadata": {"name": BUDGET, "namespace": NAMESPACE}, "spec": limits,
        }  # fmt: skip
        await self.api.call("POST", f"{GROUP}/{NAMESPACE}/budgets", budget, gone_is_fine=True)
        wanted: dict[str, Any] = {
            "contacts": {"listRef": {"name": LIST}},
            "budgetRefs": [{"name": BUDGET}],
            "lookAhead": LOOK_AHEAD,
            "ttlSecondsAfterFinished": 0,
            "attempts": {"max": 1},
            "pacing": {"maxConcurrent": min(1000, self.size.workers * self.size.slots)},
            "worker": {"slotsPerWorker": self.size.slots, "maxWorkers": self.size.workers},
        }
        body = campaign_body(NAMESPACE, campaign, **{**wanted, **spec})
        await self.api.call("POST", f"{GROUP}/{NAMESPACE}/campaigns", body)

    async def finished(self, on_progress: Any = None) -> None:
        """Waits until everybody's attempt is settled and no session is left. Raises TimeoutError if stuck."""
        best, since = -1, time.monotonic()
        while True:
            settled = int(await self.sql("SELECT count(*) FROM dial_attempts WHERE state = 'settled'"))
            left = await self.sessions_left() if settled >= self.size.sessions else self.size.sessions
            done = settled + self.size.sessions - left
            if done >= 2 * self.size.sessions:
                return
            if done > best:
                best, since = done, time.monotonic()
            if time.monotonic() - since > STUCK_S:
                states = await self.states()
                raise TimeoutError(f"stuck at {settled} settled, {left} sessions left: {states}")
            if on_progress is not None:
                on_progress(settled, left)
            await asyncio.sleep(POLL_S)

    async def sessions_left(self) -> int:
        """CallSessions that there are."""
        page = await self.api.call("GET", f"{GROUP}/{NAMESPACE}/callsessions?limit=1")
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    async def states(self) -> list[tuple[str, int]]:
        """Attempts by state."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(text("SELECT state, count(*) FROM dial_attempts GROUP BY state"))
            return [(row[0], row[1]) for row in rows]

    async def problems(self) -> list[str]:
        """What is wrong after a run: everybody called once, everything settled, the books balanced."""
        found = list(self.workers.problems[:5])
        wrong = [contact for contact, times in self.workers.called.items() if times != 1]
        if wrong or len(self.workers.called) != self.size.sessions:
            found.append(f"{len(self.workers.called)} of {self.size.sessions} were called, {len(wrong)} not once")
        for name, statement in _CHECKS.items():
            if count := int(await self.sql(statement)):
                found.append(f"{name}: {count}")
        found += [f"{key} was overspent" for key in await Ledger(self.engine).overspent_accounts()]
        return found

    async def sql(self, statement: str, **parameters: Any) -> Any:
        """Runs a statement as the owner; answers its first value, if it has rows."""
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    async def end_operator(self, identity: str, number_: signal.Signals = signal.SIGTERM) -> None:
        """Sends a signal and waits for the process's end."""
        process = self.operators.pop(identity)
        if process.returncode is None:
            process.send_signal(number_)
        await asyncio.wait_for(process.wait(), 60)


_CHECKS = {
    "attempts that are not settled": "SELECT count(*) FROM dial_attempts WHERE state NOT IN ('settled', 'revoked')",
    "people who are not done": "SELECT count(*) FROM campaign_contacts WHERE state IS DISTINCT FROM 'Completed'",
    "money still held": "SELECT count(*) FROM accounts WHERE held_micros <> 0",
    "accounts that are not the sums of their entries": """
        SELECT count(*) FROM accounts a LEFT JOIN (
            SELECT account_id, sum(held_micros) AS held, sum(spent_micros) AS spent FROM ledger_entries
            GROUP BY account_id) e ON e.account_id = a.id
        WHERE (a.held_micros, a.spent_micros) <> (COALESCE(e.held, 0), COALESCE(e.spent, 0))""",
}


@asynccontextmanager
async def world(server: ApiServer, database_url: str, folder: Path, size: Size) -> AsyncIterator[World]:
    """A new database with everybody on its list, workers that wait for calls, and an operator that leads."""
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute(_NO_PACE)
    async with AsyncExitStack() as stack:
        engine = create_engine(database_url)
        stack.push_async_callback(engine.dispose)
        await ContactLists(engine).import_rows(NAMESPACE, LIST, _people(size.sessions), SUBJECTS)
        api = await stack.enter_async_context(api_client(server))
        for left in _LEFT_BEHIND:
            with suppress(HTTPError):
                server.request("DELETE", left)
        for name in _SECRETS:
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}
            await api.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret, gone_is_fine=True)
        workers = PretendWorkers(api, DialStore(engine, RING.of_namespace(NAMESPACE)), NAMESPACE)
        found = World(server, api, engine, size, folder, workers)
        playing = asyncio.create_task(workers.run())
        stack.callback(playing.cancel)
        try:
            await found.start_operator(f"first-{uuid4().hex[:6]}")
            await found.leads()
            yield found
        finally:
            for identity in list(found.operators):
                await found.end_operator(identity)


def _people(count: int) -> Iterator[Row]:
    def lines() -> Iterator[str]:
        yield "phone,consent_kind,consent_source,consent_time\n"
        for index in range(count):
            yield f"{number(index)},{CONSENT.kind},{CONSENT.source},{CONSENT.given_at.isoformat()}\n"

    return read_contacts(lines())
