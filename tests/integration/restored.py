"""An installation whose database is taken back to an earlier state, while people were called and money was spent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import (
    ACCOUNT_SID,
    BUDGET,
    CAMPAIGN,
    CONSENT,
    KEY,
    NAMESPACE,
    POD,
    RING,
    RUN,
    SUBJECTS,
    Books,
    billed,
    number,
    register_carrier,
)  # fmt: skip
from tests.integration.office import FROM, VOICE
from tests.integration.operator_parts import CARRIER_TOKEN, Operator, campaign_body, operator, walk_attempts

from callfleet_core.contacts import ContactBook, session_name
from callfleet_core.dialing import DialStore
from callfleet_core.ledger import HoldResult, Ledger
from callfleet_core.reconciliation import Noted, ReconciliationDesk
from callfleet_core.runs import CampaignRuns, Run
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import budget, recovery, witness
from callfleet_simulator.calls import Call, CallRequest, CallStatus, new_sid
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import running

PEOPLE = 8
HOLD_MICROS = 36_000
GROUP = "/apis/callfleet.dev/v1alpha1/namespaces"


@dataclass
class World:
    """Kubernetes and the carrier, which go on whatever becomes of the database, and the present database's books."""

    server: ApiServer
    carrier: Carrier
    carrier_url: str
    books: Books
    operator: Operator

    @asynccontextmanager
    async def reopened(self, engine: AsyncEngine) -> AsyncIterator[World]:
        """The same world with another database, or an older one, as an operator that starts finds it."""
        async with operator(engine, self.server, self.carrier_url, knows_database=True) as parts:
            world = replace(self, operator=parts, books=_books(engine, parts.context.ledger, self.books.people))
            await witness.begin(parts.context)
            await parts.see()
            yield world

    @asynccontextmanager
    async def doubted(self, trusted_s_ago: float = 0.0) -> AsyncIterator[World]:
        """The same database, which no longer has its witness's token and was trusted last so many seconds ago."""
        await self.books.sql(
            "UPDATE installation SET witness = gen_random_uuid(), previous_witness = NULL,"
            " trusted_at = clock_timestamp() - make_interval(secs => :ago)",
            ago=trusted_s_ago,
        )
        async with self.reopened(self.books.engine) as world:
            yield world

    def with_database(self, engine: AsyncEngine) -> World:
        """The same world over another database, for whoever leads nothing."""
        return replace(self, books=_books(engine, Ledger(engine), self.books.people))

    def summary(self) -> str:
        """What the Campaign says."""
        body = self.server.request("GET", f"{GROUP}/{NAMESPACE}/campaigns/{CAMPAIGN}")
        return str(body.get("status", {}).get("summary", ""))

    def name(self, index: int) -> str:
        """A person's session."""
        return session_name(CAMPAIGN, RUN, self.books.people[index])

    async def granted(self, index: int) -> UUID:
        """Holds the money for a person's call and binds it, as an admission does."""
        attempt = await self.books.held(index, session_name=self.name(index))
        self.status(index, attempt, state="Admitted")
        return attempt

    async def called(self, index: int, *, status: str = "completed", named: bool = True, **call: Any) -> UUID:
        """A person's call from the hold to the money; it is 70 seconds long unless it is still live."""
        return await self.dialled(index, await self.granted(index), status=status, named=named, **call)

    async def dialled(
        self, index: int, attempt: UUID, *, status: str = "completed", named: bool = True, **call: Any
    ) -> UUID:
        """The rest of a granted call; `named`: its session still says which call it was."""
        listed = self.listed(index, CallStatus(status), **call)
        await self.books.dialed(attempt, listed.sid)
        live = not listed.ended
        if not live:
            await self.books.ended(attempt, listed.status.value, listed.duration_s)  # type: ignore[arg-type]  # an end
            await self.books.ledger.settle(attempt, billed(listed.duration_s or 0))
        if named:
            state = "InProgress" if live else "Completed"
            self.status(index, attempt, state=state, callSID=listed.sid)
        else:
            self.server.request("PATCH", self.path(index), {"metadata": {"finalizers": None}}, MERGE)
            self.server.request("DELETE", self.path(index))
        return attempt

    def listed(
        self, index: int, status: CallStatus = CallStatus.COMPLETED, *, from_: str = FROM, **changes: Any
    ) -> Call:
        """A call as the carrier has it, created now."""
        now = datetime.now(UTC)
        over = status not in {CallStatus.QUEUED, CallStatus.RINGING, CallStatus.IN_PROGRESS}
        talked = status is CallStatus.COMPLETED
        values: dict[str, Any] = {
            "status": status,
            "date_created": now,
            "start_time": None if status is CallStatus.QUEUED else now,
            "end_time": now + timedelta(seconds=70) if over else None,
            "duration_s": 70 if talked else 0 if over else None,
            "answered": talked,
            "price_micros": 2 * VOICE if talked else None,
            **changes,
        }
        call = Call(new_sid("CA"), ACCOUNT_SID, CallRequest(number(index), from_), **values)
        self.carrier.calls.add(call)
        return call

    def path(self, index: int) -> str:
        """A person's CallSession."""
        return f"{GROUP}/{NAMESPACE}/callsessions/{self.name(index)}"

    def status(self, index: int, attempt: UUID, **status: Any) -> None:
        """What operator and worker write into a session's status."""
        held = {"id": str(attempt), "number": 1, "held": "0.036"}
        body = {"attempt": held, "podUID": POD, "worker": "w", **status}
        self.server.patch_status(NAMESPACE, self.name(index), body)

    def raise_limit(self, total: str) -> None:
        """What `kubectl apply` of a Budget does."""
        path = f"{GROUP}/{NAMESPACE}/budgets/{BUDGET}"
        self.server.request("PATCH", path, {"spec": {"limits": {"total": total}}}, MERGE)

    async def put_in_force(self) -> None:
        """Sees what Kubernetes has, and puts the Budget's limit in force."""
        await self.operator.see()
        await budget.reconcile(self.operator.context, Key("Budget", NAMESPACE, BUDGET))

    async def beat(self, times: int = 3) -> None:
        """A few seconds go by."""
        for _ in range(times):
            await witness.compare(self.operator.context)

    async def read_lists(self, later_s: float = 0.0) -> str | None:
        """One look of the recovery's, so much later; what Campaigns say then."""
        self.operator.context.now = lambda: datetime.now(UTC) + timedelta(seconds=later_s)
        await recovery.reconcile(self.operator.context)
        self.operator.context.now = lambda: datetime.now(UTC)
        return self.operator.context.trust.recovering

    async def settle(self) -> None:
        """What has ended is settled."""
        await walk_attempts(self.operator.context)

    async def lost(self) -> list[Noted]:
        """The differences that are kept."""
        return await ReconciliationDesk(self.books.engine).differences()

    async def holds(self) -> dict[int, HoldResult]:
        """What becomes of asking to call everybody (again)."""
        return {
            index: (await self.books.hold(index, session_name=self.name(index), number=3)).result
            for index in range(PEOPLE)
        }


MERGE = "application/merge-patch+json"


@asynccontextmanager
async def open_world(engine: AsyncEngine, server: ApiServer, total: str = "0.11") -> AsyncIterator[World]:
    """A Campaign of eight people and a Budget in Kubernetes, and an operator that trusts its database."""
    carrier = Carrier(
        CarrierConfig(ACCOUNT_SID, CARRIER_TOKEN), People(people={number(0): Person(name="Nobody", ring_s=0.1)})
    )
    async with running(carrier) as simulator, operator(engine, server, simulator.url) as parts:
        world = World(server, carrier, simulator.url, _books(engine, parts.context.ledger, []), parts)
        await register_carrier(engine, api_base_url=simulator.url)
        for body in _objects(server, total):
            parts.apply(body)
        await witness.begin(parts.context)
        await parts.reconcile(NAMESPACE, CAMPAIGN)  # its finalizer
        await parts.reconcile(NAMESPACE, CAMPAIGN)
        await world.put_in_force()
        due = await parts.context.runs.due(Run(NAMESPACE, CAMPAIGN, RUN), PEOPLE)
        world.books.people += [item.contact_id for item in due]
        yield world


def _objects(server: ApiServer, total: str) -> list[dict[str, Any]]:
    clear(server)
    consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
    people = [{"phone": number(index), "name": "Nobody", "consent": consent} for index in range(PEOPLE)]
    campaign = campaign_body(
        NAMESPACE, CAMPAIGN, contacts={"inline": people}, budgetRefs=[{"name": BUDGET}],
        call={"from": [FROM], "maxDurationSeconds": 120},
    )  # fmt: skip
    limits = {"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget"}
    meta = {"name": BUDGET, "namespace": NAMESPACE}
    return [{**limits, "metadata": meta, "spec": {"limits": {"total": total}}}, campaign]


def clear(server: ApiServer) -> None:
    """Removes what an earlier test left."""
    namespaces = {item["metadata"]["name"] for item in server.request("GET", "/api/v1/namespaces")["items"]}
    if NAMESPACE not in namespaces:
        server.request("POST", "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for kind in ("campaigns", "callsessions", "budgets"):
        for item in server.request("GET", f"{GROUP}/{NAMESPACE}/{kind}")["items"]:
            path = f"{GROUP}/{NAMESPACE}/{kind}/{item['metadata']['name']}"
            if item["metadata"].get("finalizers"):
                server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
            server.request("DELETE", path)


def _books(engine: AsyncEngine, ledger: Ledger, people: list[UUID]) -> Books:
    return Books(
        engine,
        ledger,
        DialStore(engine, RING.of_namespace(NAMESPACE)),
        ContactBook(engine, KEY, lambda: ledger.epoch),
        CampaignRuns(engine, SUBJECTS, lambda: ledger.epoch),
        list(people),
    )
