"""The operator's walk settles what is over: all that can be, whatever is the matter with the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import api_server
from tests.integration.books import CAMPAIGN, HOLD_MICROS, NAMESPACE, POD, RUN
from tests.integration.office import Office, open_office
from tests.integration.operator_parts import walk_attempts

from callfleet_operator.context import ASK_AGAIN_AFTER
from callfleet_operator.reconcile import attempts
from callfleet_operator.reconcile.attempts import LIVE_POLL_EVERY


@pytest.fixture
async def office(engine: AsyncEngine, database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    with api_server(tmp_path) as server:
        async with open_office(engine, database_url, server) as office:
            yield office


async def test_one_attempts_trouble_is_its_own(office: Office) -> None:
    books = office.books
    held = [await books.held(index) for index in range(4)]
    for index, attempt in enumerate(held[:3]):
        await books.dialed(attempt, f"CA{index:032d}")
    await books.dialing.begin_dial(held[3], POD, uuid4())
    await books.ended(held[0])
    await books.ended(held[1], "completed", None)  # and the carrier knows no such call: no duration
    await books.ended(held[2])  # which PostgreSQL will not take
    await books.sql(f"ALTER TABLE cost_lines ADD CONSTRAINT no CHECK (attempt_id <> '{held[2]}')")
    await books.ended(held[3], "unresolved", None)  # may still be heard of
    await walk_attempts(office.operator.context)
    assert await books.budget() == (3 * HOLD_MICROS, 36_000)
    await books.sql("UPDATE dial_attempts SET duration_s = 59 WHERE id = :id", id=held[1])
    await books.sql("ALTER TABLE cost_lines DROP CONSTRAINT no")
    await books.sql("UPDATE dial_attempts SET begun_at = begun_at - interval '25 hours'")
    await walk_attempts(office.operator.context)
    assert (await books.budget(), await books.unbalanced()) == ((0, 2 * 36_000 + 18_000), 0)


class SilentCarrier:
    """Knows of no call, and answers once it was asked about two."""

    def __init__(self, office: Office) -> None:
        self._office, self._both = office, asyncio.Barrier(2)
        self.spent: list[int] = []

    async def fetch(self, _sid: str) -> None:
        """Notes what was spent when it was asked."""
        self.spent.append((await self._office.books.budget())[1])
        async with asyncio.timeout(10):
            await self._both.wait()


async def test_what_needs_no_question_is_posted_before_the_carrier_is_asked_once_a_minute(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, context = office.books, office.operator.context
    held = [await books.held(index) for index in range(3)]
    for index, attempt in enumerate(held):
        await books.dialed(attempt, f"CA{index:032d}")
        await books.ended(attempt, "completed", 70 if index == 2 else None)
    carrier = SilentCarrier(office)

    async def client(_account_sid: str) -> Any:
        return carrier

    monkeypatch.setattr(context.carriers, "client", client)
    for _ in range(3):
        await walk_attempts(context)
    assert carrier.spent == [36_000, 36_000]
    context.now = lambda: datetime.now(UTC) + ASK_AGAIN_AFTER
    await walk_attempts(context)
    assert len(carrier.spent) == 4


async def test_a_carrier_that_hangs_keeps_nobody_elses_money_and_no_grant(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, context = office.books, office.operator.context
    held = [await books.held(index) for index in range(4)]
    for index, attempt in enumerate(held[:3]):
        await books.dialed(attempt, f"CA{index:032d}")
    await books.ended(held[1], "completed", None)
    asked, answered = asyncio.Event(), asyncio.Event()

    class HangingCarrier:
        async def fetch(self, _sid: str) -> None:
            asked.set()
            await answered.wait()

    async def client(_account_sid: str) -> Any:
        return HangingCarrier()

    monkeypatch.setattr(context.carriers, "client", client)
    context.now = lambda: datetime.now(UTC) + LIVE_POLL_EVERY  # the first is asked about
    asking = asyncio.create_task(walk_attempts(context))
    async with asyncio.timeout(20):
        await asked.wait()
        await books.ended(held[2], "completed", 70)
        await books.sql("UPDATE dial_attempts SET expires_at = clock_timestamp() WHERE id = :id", id=held[3])
        await attempts.reconcile(context)
    assert await books.budget() == (2 * HOLD_MICROS, 36_000)
    assert not asking.done()
    answered.set()
    await asking


@pytest.mark.parametrize(("state", "looks"), [(None, 0), ("Dialing", 1), ("Failed", 0)])
async def test_a_session_that_says_how_its_unresolved_call_ended_is_left_alone(
    office: Office, state: str | None, looks: int
) -> None:
    books, context = office.books, office.operator.context
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "unresolved", None)
    if state is not None:
        context.store.apply("CallSession", _session(books.people[0], state))
    before = len(context.queue)
    await walk_attempts(context)
    assert len(context.queue) - before == looks


def _session(contact: UUID, state: str) -> dict[str, Any]:
    meta = {
        "name": f"{CAMPAIGN}-{RUN}-0", "namespace": NAMESPACE, "uid": "s", "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    spec = {"campaign": CAMPAIGN, "runID": RUN, "contactID": str(contact)}
    return {"metadata": meta, "spec": spec, "status": {"state": state}}
