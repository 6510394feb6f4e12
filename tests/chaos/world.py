"""The installation that the clients fight over: few people, many runs, budgets that are nearly spent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    ACCOUNT_SID,
    CAMPAIGN,
    NAMESPACE,
    RUN,
    SCRIPT,
    open_books,
    register_carrier,
)

from callfleet_core.db.engine import create_engine
from callfleet_core.ledger import HoldRequest, account_key
from callfleet_core.windows import TOTAL

PEOPLE = 160
RUNS = 400
BUDGETS = 6
# Amounts are large, so that two limits are never the same by chance.
MICROS = 1_000_000
HOLD_MICROS = (5 * MICROS, 60 * MICROS)
FIRST_LIMIT_MICROS = 600 * MICROS
CAMPAIGN_ACCOUNT = account_key(NAMESPACE, "Campaign", CAMPAIGN)

_MORE_RUNS = """
WITH one AS (SELECT to_jsonb(c) AS row FROM campaign_contacts c WHERE run_id = :run)
INSERT INTO campaign_contacts SELECT r.* FROM one CROSS JOIN generate_series(2, :runs) n,
    LATERAL jsonb_populate_record(NULL::campaign_contacts, one.row || jsonb_build_object('run_id', n::text)) r
"""


def budget(index: int) -> str:
    """The name of a budget."""
    return f"budget-{index}"


def budget_account(index: int) -> str:
    """Its account."""
    return account_key(NAMESPACE, "Budget", budget(index))


@dataclass(frozen=True)
class World:
    """Who can be called."""

    people: tuple[UUID, ...]

    def save(self, path: Path) -> None:
        """For the clients."""
        path.write_text(json.dumps([str(person) for person in self.people]))

    @classmethod
    def load(cls, path: Path) -> World:
        """In a client."""
        return cls(tuple(UUID(person) for person in json.loads(path.read_text())))

    def request(
        self,
        attempt: UUID,
        *,
        person: int,
        run: int,
        number: int,
        amount_micros: int,
        budgets: list[int],
        expires_s: int,
    ) -> HoldRequest:
        """A request to hold in the campaign's account and in those of `budgets`."""
        return HoldRequest(
            attempt_id=attempt,
            number=number,
            namespace=NAMESPACE,
            campaign=CAMPAIGN,
            run_id=str(run),
            contact_id=self.people[person],
            session_name=session_name(person, run),
            session_uid=f"{person}-{run}",
            pod_uid=pod_of(person),
            amount_micros=amount_micros,
            currency="USD",
            accounts=(CAMPAIGN_ACCOUNT, *map(budget_account, budgets)),
            time_limit_s=120,
            ring_timeout_s=20,
            max_queue_s=30,
            account_sid=ACCOUNT_SID,
            from_number="+15550100001",
            time_zone="UTC",
            script=SCRIPT,
            max_attempts=max_attempts(person),
            expires_after_s=expires_s,
        )


def session_name(person: int, run: int) -> str:
    """The session of a person in a run."""
    return f"{CAMPAIGN}-{run}-{person}"


def max_attempts(person: int) -> int:
    """How often this person may be tried in a run."""
    return 1 + person % 2


def pod_of(person: int) -> str:
    """The pod that is granted this person's calls."""
    return f"pod-{person % 4}"


async def fill(url: str, *, reserved: int = 0) -> World:
    """Fills a migrated database; `reserved` people more than PEOPLE are there for whoever knows of them."""
    engine = create_engine(url)
    try:
        return await _fill(engine, PEOPLE + reserved)
    finally:
        await engine.dispose()


async def _fill(engine: AsyncEngine, people: int) -> World:
    books = await open_books(engine, people=people)
    await register_carrier(engine, calls_per_second=2000)
    await books.sql(_MORE_RUNS, run=RUN, runs=RUNS)
    for index in range(BUDGETS):
        await books.ledger.set_limit(
            namespace=NAMESPACE, kind="Budget", name=budget(index), window=TOTAL, currency="USD",
            limit_micros=FIRST_LIMIT_MICROS + index, suspended=False, uid="1", generation=0,
        )  # fmt: skip
    for table in ("campaign_contacts", "contacts", "consents"):
        await books.sql(f"ANALYZE {table}")
    return World(tuple(books.people))
