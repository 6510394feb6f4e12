"""Who leads no more moves no money, ends no call and writes no list; on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from tests.integration.books import (
    CAMPAIGN,
    NAMESPACE,
    POD,
    Books,
    consenting,
)

from callfleet_core.dialing import DialStore, EndEvidence
from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import Ledger


async def test_a_deposed_leader_writes_nothing(books: Books) -> None:
    await Ledger(books.engine).take_epoch()
    with pytest.raises(StaleEpochError):
        await books.hold()
    with pytest.raises(StaleEpochError):
        await books.ledger.revoke(uuid4(), "Expired")
    assert await books.budget() == (0, 0)


async def test_a_deposed_leader_gives_no_call_up_and_ends_none(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    own = DialStore(books.engine, epoch=lambda: books.ledger.epoch)
    unresolved = EndEvidence(source="operator", status="unresolved", at=datetime.now(UTC))
    await books.ledger.note_lookup(attempt, empty=True)
    await Ledger(books.engine).take_epoch()
    for write in (
        books.ledger.note_lookup(attempt, empty=True),
        books.ledger.request_cancel(attempt),
        own.record_ended(attempt, unresolved),
    ):
        with pytest.raises(StaleEpochError):
            await write
    (known,) = await books.ledger.unsettled_attempts()
    assert (known.state, known.lookups_empty, known.cancel_requested_at) == ("dialing", 1, None)
    # What the carrier says is true whoever brings it.
    assert await own.record_placed(attempt, "CA" + "1" * 32) == "placed"
    assert await own.record_ended(attempt, unresolved.model_copy(update={"status": "busy"}))


async def test_who_leads_gives_a_call_up(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    own = DialStore(books.engine, epoch=lambda: books.ledger.epoch)
    assert await own.record_ended(attempt, EndEvidence(source="operator", status="unresolved", at=datetime.now(UTC)))


async def test_a_deposed_leader_writes_no_list_and_no_mirror(books: Books) -> None:
    await Ledger(books.engine).take_epoch()
    with pytest.raises(StaleEpochError):
        await books.listed(CAMPAIGN, "2", consenting(0))
    with pytest.raises(StaleEpochError):
        await books.contacts.close_campaign(NAMESPACE, CAMPAIGN)
