"""A ledger with many people and a hundred budgets, and clients that hold as fast as they are answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import CAMPAIGN, NAMESPACE, RUN, Books, consenting, open_books

from callfleet_core.api.campaign import CampaignSpec
from callfleet_core.ids import time_ordered_id
from callfleet_core.ledger import HoldRequest, HoldResult, Ledger, account_key
from callfleet_core.pricing import CostLine
from callfleet_core.windows import TOTAL

SAMPLE = "docs/samples/demo-campaign.yaml"
ACCOUNTS = 100
# More than all of them can hold: the benchmark is of holds, not of refusals.
LIMIT_MICROS = 10**15


@dataclass(frozen=True)
class Rate:
    """How many were done in how many seconds."""

    done: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.done / self.seconds


class LedgerLoad:
    """The books, filled once; every person can be held for again after `release`."""

    def __init__(self, engine: AsyncEngine, books: Books, people: list[tuple[int, UUID]], seed: int) -> None:
        self._engine = engine
        self._books = books
        self._people = people
        self._random = random.Random(seed)  # noqa: S311  # a benchmark's choices, not a secret
        with open(SAMPLE) as file:  # noqa: PTH123  # read once, before anything is measured
            campaign = list(yaml.safe_load_all(file))[1]
        script = CampaignSpec.model_validate(campaign["spec"]).script()
        self._script = script.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    async def fill(cls, engine: AsyncEngine, people: int, seed: int) -> LedgerLoad:
        """People, spread over ACCOUNTS campaigns, and as many budgets."""
        books = await open_books(engine, people=1)
        loaded: list[tuple[int, UUID]] = []
        for index in range(ACCOUNTS):
            wanted = [consenting(number) for number in range(index, people, ACCOUNTS)]
            loaded += [(index, person) for person in await books.listed(f"{CAMPAIGN}-{index}", RUN, *wanted)]
            await books.ledger.set_limit(
                namespace=NAMESPACE, kind="Budget", name=f"budget-{index}", window=TOTAL, currency="USD",
                limit_micros=LIMIT_MICROS, suspended=False, uid="1", generation=1,
            )  # fmt: skip
        return cls(engine, books, loaded, seed)

    def plan(self, clients: int, size: int, accounts: int) -> list[list[list[HoldRequest]]]:
        """For each client, batches of `size` people at random, each once; the campaigns share `accounts` budgets."""
        people = iter(self._random.sample(self._people, len(self._people)))
        batches = len(self._people) // (clients * size)
        return [
            [[self._request(*next(people), accounts) for _ in range(size)] for _ in range(batches)]
            for _ in range(clients)
        ]

    def _request(self, index: int, person: UUID, accounts: int) -> HoldRequest:
        campaign = f"{CAMPAIGN}-{index}"
        return self._books.request(
            0, campaign=campaign, contact_id=person, session_name=f"{campaign}-{person}", script=self._script,
            accounts=(account_key(NAMESPACE, "Budget", f"budget-{index % accounts}"),), attempt_id=time_ordered_id(),
        )  # fmt: skip

    async def hold(self, ledgers: Sequence[Ledger], plan: list[list[list[HoldRequest]]], seconds: float) -> Rate:
        """Each client holds batch after batch until the time, or its people, are over."""
        began = time.perf_counter()
        counts = await asyncio.gather(
            *(_client(ledgers[index % len(ledgers)], batches, began + seconds) for index, batches in enumerate(plan))
        )
        return Rate(sum(counts), time.perf_counter() - began)

    async def settle(self, clients: int, lines: list[CostLine], at_most: int) -> Rate:
        """Ends attempts that are granted, outside the time, and settles them one by one."""
        ids = await self._end_granted(at_most)

        async def client(first: int) -> None:
            for attempt in ids[first::clients]:
                assert await self._books.ledger.settle(attempt, lines) == "settled"

        began = time.perf_counter()
        await asyncio.gather(*(client(first) for first in range(clients)))
        return Rate(len(ids), time.perf_counter() - began)

    async def _end_granted(self, at_most: int) -> list[UUID]:
        async with self._engine.begin() as connection:
            rows = await connection.execute(text(_END), {"at": datetime.now(UTC), "at_most": at_most})
            return list(rows.scalars())

    @property
    def ledger(self) -> Ledger:
        """The ledger of the one operator that leads."""
        return self._books.ledger

    async def release(self) -> None:
        """Takes every grant back in one statement, so that all may be held for again, and tidies up."""
        async with self._engine.connect() as connection:
            free = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await free.execute(text("SET statement_timeout = 0"))
            await free.execute(text(_RELEASE))
            for table in ("dial_attempts", "ledger_entries", "accounts", "contacts", "consents", "campaign_contacts"):
                await free.execute(text(f"VACUUM ANALYZE {table}"))
            await free.execute(text("CHECKPOINT"))
            await free.execute(text("RESET statement_timeout"))

    async def problems(self) -> list[str]:
        """What is wrong with the books after it all; nothing, one hopes."""
        problems = [f"{key} was overspent" for key in await self._books.ledger.overspent_accounts()]
        unbalanced = await self._books.sql(_UNBALANCED)
        return problems + ([f"{unbalanced} accounts are not the sums of their entries"] if unbalanced else [])


async def _client(ledger: Ledger, batches: list[list[HoldRequest]], deadline: float) -> int:
    held = 0
    for batch in batches:
        answers = await ledger.hold(batch)
        assert all(answer.result is HoldResult.HELD for answer in answers), answers
        held += len(answers)
        if time.perf_counter() > deadline:
            break
    return held


_END = """
UPDATE dial_attempts SET state = 'ended', end_status = 'completed', ended_at = :at, duration_s = 59
WHERE id IN (SELECT id FROM dial_attempts WHERE state = 'granted' LIMIT :at_most) RETURNING id
"""
_RELEASE = """
WITH gone AS (
    UPDATE dial_attempts SET state = 'revoked', reason = 'Benchmark', ended_at = now(), settled_at = now()
    WHERE state = 'granted' RETURNING id
), posted AS (
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
    SELECT h.attempt_id, h.account_id, 'release', -h.amount_micros, 0, a.limit_micros, now()
    FROM gone g JOIN holds h ON h.attempt_id = g.id JOIN accounts a ON a.id = h.account_id
    RETURNING account_id, held_micros
)
UPDATE accounts a SET held_micros = a.held_micros + p.held_micros
FROM (SELECT account_id, sum(held_micros) AS held_micros FROM posted GROUP BY account_id) p WHERE a.id = p.account_id
"""
_UNBALANCED = """
SELECT count(*) FROM accounts a LEFT JOIN (
    SELECT account_id, sum(held_micros) AS held, sum(spent_micros) AS spent FROM ledger_entries GROUP BY account_id
) e ON e.account_id = a.id WHERE (a.held_micros, a.spent_micros) <> (COALESCE(e.held, 0), COALESCE(e.spent, 0))
"""
