"""A small installation in PostgreSQL for tests of the ledger: a carrier, a campaign, people, a budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.carriers import CarrierAccount, CarrierRegister
from callfleet_core.contacts import ConsentIn, ContactBook, ContactIn
from callfleet_core.crypto import DataKey, Keyring
from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore, EndEvidence, EndStatus
from callfleet_core.ledger import HoldAnswer, HoldRequest, HoldResult, Ledger, LimitResult, account_key
from callfleet_core.pricing import CallUsage, CostCalculator, CostLine, load_prices
from callfleet_core.records import Owner
from callfleet_core.runs import CampaignRuns, Run
from callfleet_core.subjects import Subjects
from callfleet_core.windows import TOTAL, Window

KEY = b"a key of at least thirty-two bytes!!"
RING = Keyring({1: b"a test's key of thirty-two bytes"})
SUBJECTS = Subjects(RING, KEY)
ACCOUNT_SID = "AC" + "0" * 32
NAMESPACE, CAMPAIGN, BUDGET, RUN = "sales", "spring", "us-sales", "1"
POD = "1b2a0000-0000-4000-8000-000000000001"
OWNER = Owner(POD, 1)
HOLD_MICROS = 36_000
SCRIPT: dict[str, Any] = {
    "persona": "A friendly agent.",
    "llmModel": "smollm2",
    "opening": "Hello.",
    "closing": "Goodbye.",
    "questions": [{"name": "interested", "type": "YesNo", "ask": ["Are you interested?"]}],
}


def number(index: int) -> str:
    """The fictional number of the contact at `index`."""
    return f"+155501{index:05d}"


def billed(duration_s: int) -> list[CostLine]:
    """What an answered call of so many seconds costs."""
    usage = CallUsage(number(0), duration_s, stream_s=duration_s)
    return CostCalculator(load_prices()).actual(usage, datetime.now(UTC))


CONSENT = ConsentIn("express-written", "web form", datetime.now(UTC) - timedelta(days=1))


def consenting(index: int) -> ContactIn:
    """The contact at `index`, who agreed to be called."""
    return ContactIn(number(index), None, CONSENT)


_UNBALANCED = """
SELECT count(*) FROM accounts a WHERE (a.held_micros, a.spent_micros) NOT IN (
    SELECT COALESCE(sum(e.held_micros), 0), COALESCE(sum(e.spent_micros), 0) FROM ledger_entries e
    WHERE e.account_id = a.id)
"""


async def register_carrier(
    engine: AsyncEngine,
    *,
    account_sid: str = ACCOUNT_SID,
    api_base_url: str = "http://127.0.0.1:9",
    public_url: str = "http://127.0.0.1:8",
    calls_per_second: float = 1000,
) -> None:
    """Puts the account in force, as a simulator's."""
    account = CarrierAccount(
        account_sid, SecretStr("made-up"), api_base_url, public_url, simulated=True, calls_per_second=calls_per_second
    )
    assert await CarrierRegister(engine).put_in_force(account)


_OLDER = """
INSERT INTO dial_attempts SELECT (jsonb_populate_record(a, jsonb_build_object(
    'id', gen_random_uuid(), 'campaign', 'another', 'number', n, 'number_hash', n::text, 'state', 'ended',
    'granted_pod_uid', 'another', 'granted_at', a.granted_at - interval '1 hour', 'ended_at', now()))).*
FROM dial_attempts a CROSS JOIN generate_series(1, :count) n
"""


@dataclass
class Books:
    """The stores, and what they hold; `people` are contact ids in order."""

    engine: AsyncEngine
    ledger: Ledger
    dialing: DialStore
    contacts: ContactBook
    runs: CampaignRuns
    people: list[UUID] = field(default_factory=list)

    def request(self, index: int = 0, **changes: Any) -> HoldRequest:
        """A request to hold for the contact at `index`."""
        base = HoldRequest(
            attempt_id=uuid4(),
            number=1,
            namespace=NAMESPACE,
            campaign=CAMPAIGN,
            run_id=RUN,
            contact_id=self.people[index],
            session_name=f"{CAMPAIGN}-{RUN}-{index}",
            session_uid=str(uuid4()),
            pod_uid=POD,
            amount_micros=HOLD_MICROS,
            currency="USD",
            accounts=(account_key(NAMESPACE, "Campaign", CAMPAIGN), account_key(NAMESPACE, "Budget", BUDGET)),
            time_limit_s=120,
            ring_timeout_s=20,
            max_queue_s=30,
            account_sid=ACCOUNT_SID,
            from_number="+15550100001",
            time_zone="UTC",
            script=SCRIPT,
            max_attempts=3,
        )
        return replace(base, **changes)

    async def hold(self, index: int = 0, **changes: Any) -> HoldAnswer:
        """Holds for one contact."""
        return (await self.ledger.hold([self.request(index, **changes)]))[0]

    async def listed(self, campaign: str, run_id: str, *people: ContactIn) -> list[UUID]:
        """Makes another list; answers its people's ids."""
        await self.contacts.mirror_campaign(
            namespace=NAMESPACE, name=campaign, uid=f"{campaign}-1", generation=1, suspended=False, closed=False
        )
        run = Run(NAMESPACE, campaign, run_id)
        await self.runs.load(run, people)
        return [item.contact_id for item in await self.runs.due(run, len(people))]

    async def held(self, index: int = 0, **changes: Any) -> UUID:
        """Holds for one contact, which must succeed; answers the attempt's id."""
        answer = await self.hold(index, **changes)
        assert answer.result is HoldResult.HELD, answer
        return answer.attempt_id

    async def limit(
        self, micros: int, *, uid: str = "budget-1", generation: int = 1, window: Window = TOTAL, **changes: Any
    ) -> LimitResult:
        """Sets the budget's limit in a window."""
        values: dict[str, Any] = {"currency": "USD", "suspended": False, **changes}
        return await self.ledger.set_limit(
            namespace=NAMESPACE,
            kind="Budget",
            name=BUDGET,
            window=window,
            limit_micros=micros,
            uid=uid,
            generation=generation,
            **values,
        )

    async def budget(self) -> tuple[int, int]:
        """(held, spent) of the budget, in micros; of an older schema, too."""
        held, spent = await self.sql(
            "SELECT ARRAY[held_micros, spent_micros] FROM accounts WHERE key = :key",
            key=account_key(NAMESPACE, "Budget", BUDGET),
        )
        return held, spent

    async def dialed(self, attempt: UUID, sid: str = "CA" + "1" * 32) -> None:
        """Begins the dial and stores the carrier's SID."""
        decision = await self.dialing.begin_dial(attempt, POD, uuid4())
        assert decision.verdict == "go", decision
        await self.dialing.record_placed(attempt, sid)

    async def ended(self, attempt: UUID, status: EndStatus = "completed", duration_s: int | None = 70) -> bool:
        """Records the carrier's final word."""
        evidence = EndEvidence(source="callback", status=status, duration_s=duration_s, at=datetime.now(UTC))
        return await self.dialing.record_ended(attempt, evidence)

    async def unbalanced(self) -> int:
        """How many accounts' balances are not the sums of their entries; 0 when all is well."""
        return int(await self.sql(_UNBALANCED))

    async def key(self, index: int = 0) -> DataKey:
        """The key of the contact at `index`."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT id, namespace, key_version, wrapped_key FROM contacts WHERE id = :id"),
                {"id": self.people[index]},
            )
            return SUBJECTS.key(dict(rows.mappings().one()))

    async def sql(self, statement: str, **parameters: Any) -> Any:
        """Runs a statement as the owner; answers its first value, if it has rows."""
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), parameters)
            return result.scalar() if result.returns_rows else None

    async def older_attempts(self, count: int) -> None:
        """As many attempts of another campaign's, that ended before the one that there is and nobody can price."""
        await self.sql(_OLDER, count=count)


async def login(books: Books, database_url: str, role: str) -> AsyncEngine:
    """An engine of a user that has this role and nothing else."""
    return create_engine(await login_url(books, database_url, role))


async def login_url(books: Books, database_url: str, role: str) -> str:
    """The database's address for a new user that has this role and nothing else."""
    name = f"t_{uuid4().hex[:12]}"
    await books.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE {role}")
    scheme, rest = database_url.split("://", 1)
    return f"{scheme}://{name}:secret@{rest.rsplit('@', 1)[1]}"


async def open_books(engine: AsyncEngine, *, people: int = 12, limit_micros: int = 220_000) -> Books:
    """An installation with a simulated carrier, one campaign, `people` contacts with consent, and a budget."""
    await register_carrier(engine)
    ledger = Ledger(engine)
    books = Books(
        engine,
        ledger,
        DialStore(engine, RING.of_namespace(NAMESPACE)),
        ContactBook(engine, KEY, lambda: ledger.epoch),
        CampaignRuns(engine, SUBJECTS, lambda: ledger.epoch),
    )
    await books.ledger.take_epoch()
    await books.contacts.mirror_campaign(
        namespace=NAMESPACE, name=CAMPAIGN, uid="campaign-1", generation=1, suspended=False, closed=False
    )
    run = Run(NAMESPACE, CAMPAIGN, RUN)
    await books.runs.load(run, [consenting(index) for index in range(people)])
    books.people = [contact.contact_id for contact in await books.runs.due(run, people)]
    await books.ledger.set_limit(
        namespace=NAMESPACE,
        kind="Campaign",
        name=CAMPAIGN,
        window=TOTAL,
        currency="USD",
        limit_micros=None,
        suspended=False,
        uid="campaign-1",
        generation=1,
    )
    await books.limit(limit_micros)
    return books
