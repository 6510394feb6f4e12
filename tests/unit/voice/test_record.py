"""A call's records on their way to PostgreSQL: a wish not to be called goes first, another worker's call is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from callfleet_core.crypto import DataKey, Keyring
from callfleet_core.records import CallOutcome, LeadFields, Owner, Turn, Usage
from callfleet_worker.agents.state import CallState
from callfleet_worker.call import record
from callfleet_worker.call.record import CallTranscript
from callfleet_worker.voice.transcript import AgentTurn

CALL, OWNER = uuid4(), Owner("pod", 1)
OPTED_OUT = CallState(disposition="optedOut")
KEY = Keyring({1: b"a test's key of thirty-two bytes"}).new_key(uuid4())[0]


class Kept:
    """Records in a list; `away` makes so many writes fail, and `ours` says whose call it is."""

    def __init__(self, away: int = 0, *, ours: bool = True) -> None:
        self.written: list[str] = []
        self.tries = 0
        self.tried = asyncio.Condition()
        self._away, self._ours = away, ours

    async def add_turns(
        self, call_id: UUID, turns: Sequence[Turn], *, first_seq: int, key: DataKey, owner: Owner
    ) -> bool:
        assert key == KEY
        return await self._write(f"{len(turns)} from {first_seq}", call_id, owner)

    async def opted_out(self, call_id: UUID, *, owner: Owner) -> bool:
        return await self._write("opted out", call_id, owner)

    async def finish(
        self, call_id: UUID, outcome: CallOutcome, lead: LeadFields | None, usage: Sequence[Usage], *, owner: Owner
    ) -> bool:
        assert (lead, list(usage)) == (None, [])
        return await self._write(outcome.disposition, call_id, owner)

    async def _write(self, what: str, call_id: UUID, owner: Owner) -> bool:
        assert (call_id, owner) == (CALL, OWNER)
        async with self.tried:
            self.tries += 1
            self.tried.notify_all()
        if self.tries <= self._away:
            raise OSError("PostgreSQL is away")
        if self._ours:
            self.written.append(what)
        return self._ours


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "FIRST_PAUSE_S", 0.01)


async def _forget(_: CallState) -> None:
    """Redis is of no interest here."""


def transcript(records: Kept) -> CallTranscript:
    return CallTranscript(records, CALL, OWNER, KEY, _forget)


async def until_tried(records: Kept, times: int) -> None:
    async with asyncio.timeout(5), records.tried:
        await records.tried.wait_for(lambda: records.tries >= times)


async def test_a_wish_is_stored_once_while_the_call_goes_on() -> None:
    records = Kept()
    call = transcript(records)
    call.keep(CallState())
    for _ in range(3):
        call.keep(OPTED_OUT)
    assert records.written == []  # nobody waited for it
    await until_tried(records, 1)
    await call.finish("optedOut", None, [])
    assert records.written == ["opted out", "optedOut"]


async def test_a_wish_is_said_again_until_postgresql_takes_it() -> None:
    records = Kept(away=2)
    call = transcript(records)
    call.keep(OPTED_OUT)
    await until_tried(records, 3)
    assert records.written == ["opted out"]
    await call.finish("optedOut", None, [])


async def test_a_call_that_ends_does_not_wait_for_its_wish_but_says_it_with_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "FIRST_PAUSE_S", 60.0)
    records = Kept(away=1)
    call = transcript(records)
    call.keep(OPTED_OUT)
    await until_tried(records, 1)
    await asyncio.wait_for(call.finish("optedOut", None, []), 5)
    assert records.written == ["optedOut"]


async def test_another_workers_call_is_let_go() -> None:
    records = Kept(ours=False)
    call = transcript(records)
    call.add(AgentTurn("Hello.", "dialogue"))
    await until_tried(records, 1)
    call.add(AgentTurn("Goodbye.", "dialogue"))
    call.keep(OPTED_OUT)
    outcome = await asyncio.wait_for(call.finish("optedOut", None, []), 5)
    assert (outcome.disposition, records.tries, records.written) == ("optedOut", 1, [])
