"""Workers that are lost, with their node or by force: what was theirs goes on elsewhere, or ends and is paid, soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import NAMESPACE, number
from tests.integration.office import FROM
from tests.integration.operator_parts import walk_attempts
from tests.integration.restored import World, open_world

from callfleet_core.ledger import Attempt
from callfleet_simulator.calls import CallRequest, CallStatus
from callfleet_simulator.people import Person

ASKED_AGAIN = timedelta(seconds=11)


@pytest.fixture
async def world(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[World]:
    """Its attempts are on a pod that is not there."""
    async with open_world(engine, server) as world:
        yield world


async def walk(world: World, later: timedelta = timedelta()) -> None:
    await world.operator.see()
    world.operator.context.now = lambda: datetime.now(UTC) + later
    await walk_attempts(world.operator.context)


async def attempt_of(world: World, index: int) -> Attempt | None:
    """A person's latest attempt that was not revoked."""
    name = world.name(index)
    return (await world.operator.context.ledger.latest_attempts(NAMESPACE, [name])).get(name)


async def test_a_grant_on_a_lost_worker_is_taken_back_at_once(world: World) -> None:
    await world.granted(0)
    assert await world.books.budget() != (0, 0)
    await walk(world)
    assert await attempt_of(world, 0) is None
    assert await world.books.budget() == (0, 0)


async def test_a_call_that_rings_for_a_lost_worker_is_ended_and_settled(world: World) -> None:
    world.carrier.people.people[number(0)] = Person(name="Slow", ring_s=60)
    call = world.carrier.place(CallRequest(number(0), FROM))
    attempt = await world.granted(0)
    await world.books.dialed(attempt, call.sid)
    await walk(world)
    await walk(world)
    assert call.status is CallStatus.CANCELED
    found = await attempt_of(world, 0)
    assert found is not None
    assert found.state == "settled"
    assert (await world.books.budget())[0] == 0


async def test_an_answered_call_of_a_lost_worker_is_settled_soon_even_without_a_callback(world: World) -> None:
    attempt, call = await world.granted(0), world.listed(0, CallStatus.IN_PROGRESS)
    await world.books.dialed(attempt, call.sid)
    await world.books.dialing.record_answered(attempt, datetime.now(UTC), call_sid=call.sid)
    await walk(world, ASKED_AGAIN)
    assert not call.ended  # whether somebody still talks is the gateway's to know
    call.status, call.duration_s = CallStatus.COMPLETED, 20  # the gateway's leg was dead: the carrier hung up
    for walks in (2, 3):
        await walk(world, ASKED_AGAIN * walks)
    found = await attempt_of(world, 0)
    assert found is not None
    assert (found.state, found.duration_s) == ("settled", 20)
    assert (await world.books.budget())[0] == 0
