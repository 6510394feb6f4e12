"""A call that the carrier keeps in its queue: waited for as long as the Campaign says, and no longer; the real SDK."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import ACCOUNT_SID, NAMESPACE, POD, number, open_books
from tests.integration.operator_parts import CARRIER_TOKEN, operator, walk_attempts

from callfleet_simulator.calls import CallRequest
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import running

WORKER = {
    "metadata": {
        "namespace": NAMESPACE, "name": "pool-0", "uid": POD, "resourceVersion": "1",
        "creationTimestamp": "2026-11-30T09:00:00Z", "labels": {"callfleet.dev/pool": "pool"},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("allowed_s", "looks_after_s", "status"),
    [(300, [35, 65, 125], "queued"), (300, [65, 315], "canceled"), (30, [35], "queued"), (30, [35, 45], "canceled")],
)
async def test_a_queued_call_is_ended_when_its_time_in_the_queue_is_over(
    engine: AsyncEngine, server: ApiServer, allowed_s: int, looks_after_s: list[int], status: str
) -> None:
    """Others use the account, too, so that the carrier dials one call in a thousand seconds."""
    people = People(people={number(index): Person(name="Busy", behaviour=Behaviour.BUSY) for index in (0, 1)})
    carrier = Carrier(CarrierConfig(ACCOUNT_SID, CARRIER_TOKEN, calls_per_second=0.001), people)
    books = await open_books(engine)
    async with running(carrier) as simulator, operator(engine, server, simulator.url) as parts:
        await books.ledger.take_epoch()
        context = parts.context
        context.ledger = books.ledger
        context.store.apply("Pod", WORKER)
        carrier.place(CallRequest(number(0), "+15550100001"))
        attempt = await books.held(1, max_queue_s=allowed_s)
        call = carrier.place(CallRequest(number(1), "+15550100001"))
        await books.dialed(attempt, call.sid)
        placed = datetime.now(UTC)
        for after_s in looks_after_s:
            # As if that much time had passed: for the operator, and since it asked last.
            await books.sql("UPDATE dial_attempts SET last_lookup_at = last_lookup_at - make_interval(secs => 20)")
            context.now = lambda after_s=after_s: placed + timedelta(seconds=after_s)  # type: ignore[misc]
            await walk_attempts(context)
        assert call.status == status
        ended = await books.sql("SELECT end_status FROM dial_attempts WHERE id = :id", id=attempt)
        assert ended == (status if status == "canceled" else None)
