"""What many sessions at once ask of PostgreSQL and of the watchdogs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import CAMPAIGN, HOLD_MICROS, NAMESPACE, RUN, Books, open_books
from tests.integration.operator_parts import Operator, campaign_body, operator, walk_attempts

from callfleet_core.ledger import MAX_ATTEMPTS_A_CYCLE
from callfleet_operator.context import utc_now
from callfleet_operator.reconcile import attempts


@pytest.fixture
async def running(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Operator]:
    async with operator(engine, server) as running:
        yield running


@pytest.fixture
async def books(engine: AsyncEngine, running: Operator) -> Books:
    opened = await open_books(engine)
    await running.context.ledger.take_epoch()
    return opened


async def test_sessions_that_are_looked_at_together_are_one_query(running: Operator, books: Books) -> None:
    await books.ledger.take_epoch()
    held = [await books.held(index) for index in range(3)]
    names = [f"{CAMPAIGN}-{RUN}-{index}" for index in range(5)]
    running.queries.clear()
    found = await asyncio.gather(*(running.context.latest_attempt(NAMESPACE, name) for name in names))
    assert [item and item.id for item in found] == [*held, None, None]
    assert running.queries.statements == 1
    later = await running.context.latest_attempt(NAMESPACE, names[0])
    assert later is not None
    assert running.queries.statements == 2  # what was asked later is read later


async def test_however_many_sessions_wait_the_newest_attempt_of_each_is_known(engine: AsyncEngine) -> None:
    """Or those beyond would be tried again before their pause is over."""
    people = MAX_ATTEMPTS_A_CYCLE + 50
    books = await open_books(engine, people=people, limit_micros=10**12)
    answers = await books.ledger.hold([books.request(index) for index in range(people)])
    names = [f"{CAMPAIGN}-{RUN}-{index}" for index in range(people)]
    found = await books.ledger.latest_attempts(NAMESPACE, names)
    assert {item.id for item in found.values()} == {answer.attempt_id for answer in answers}
    assert await books.ledger.latest_attempts(NAMESPACE, []) == {}


async def test_what_nobody_can_resolve_keeps_no_other_attempt_waiting(running: Operator, books: Books) -> None:
    context = running.context
    await books.ledger.take_epoch()
    await books.held(0)  # of a campaign that is not there: to be taken back
    await context.ledger.take_epoch()
    await books.older_attempts(2 * MAX_ATTEMPTS_A_CYCLE)
    for _ in range(2):
        await walk_attempts(context)
        assert (await books.budget())[0] == HOLD_MICROS
    await walk_attempts(context)
    assert await books.budget() == (0, 0)
    assert context.walk.after is None  # the next walk begins with the oldest again


async def test_a_grant_that_is_being_bound_is_not_taken_back_however_long_it_takes(
    running: Operator, books: Books
) -> None:
    context = running.context
    await books.ledger.take_epoch()
    attempt = await books.held(0)
    (grant,) = await context.ledger.unsettled_attempts()
    body = campaign_body(NAMESPACE, CAMPAIGN, contacts={"listRef": {"name": "everybody"}})
    body["metadata"] |= {"uid": "1", "resourceVersion": "1", "creationTimestamp": "2026-11-22T09:00:00Z"}
    context.store.apply("Campaign", body)
    meta = {"name": "pool-0", "namespace": NAMESPACE, "uid": grant.granted_pod_uid}
    context.store.apply(
        "Pod", {"metadata": {**meta, "resourceVersion": "1", "creationTimestamp": "2026-11-22T09:00:00Z"}}
    )
    later = utc_now() + attempts.UNBOUND_AFTER + timedelta(seconds=5)
    context.now = lambda: later
    context.binding = {attempt}
    await walk_attempts(context)
    assert await books.sql("SELECT state FROM dial_attempts WHERE id = :id", id=attempt) == "granted"
    context.binding = set()
    await context.ledger.take_epoch()
    await walk_attempts(context)
    assert await books.sql("SELECT reason FROM dial_attempts WHERE id = :id", id=attempt) == "NotBound"
