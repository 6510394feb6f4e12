"""PostgreSQL is away when a call ends: what was said, the outcome and the wish not to be called are written later."""

from __future__ import annotations

import asyncio

from tests.integration.books import OWNER, Books, open_books
from tests.integration.own_postgres import own_postgres
from tests.integration.test_leadership import until

from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.records import CallRecords
from callfleet_worker.agents.state import CallState
from callfleet_worker.call.record import TURN_WITHIN_S, CallTranscript
from callfleet_worker.voice.transcript import AgentTurn

AFTERWARDS_S = 20.0


async def _forget(_: CallState) -> None:
    """Redis is of no interest here."""


async def _written(books: Books, turns: int) -> None:
    await until(lambda: books.sql("SELECT count(*) FROM conversations"), lambda found: found == turns, 5)


async def test_what_was_said_is_written_when_postgresql_is_back_after_the_calls_end() -> None:
    with own_postgres() as postgresql:
        migrate(postgresql.url)
        engine = create_engine(postgresql.url)
        books = await open_books(engine, people=1)
        attempt = await books.held()
        await books.dialed(attempt)
        await books.ended(attempt)
        transcript = CallTranscript(CallRecords(engine), attempt, OWNER, await books.key(), _forget)
        transcript.add(AgentTurn("Hello.", "dialogue"))
        await _written(books, 1)
        await asyncio.to_thread(postgresql.stop)
        transcript.add(AgentTurn("Goodbye.", "dialogue"))
        ending = asyncio.create_task(transcript.finish("optedOut", None, []))
        await asyncio.sleep(TURN_WITHIN_S + 4)
        assert not ending.done()
        await asyncio.to_thread(postgresql.start)
        outcome = await asyncio.wait_for(ending, AFTERWARDS_S)
        assert outcome.disposition == "optedOut"
        await _written(books, 2)
        assert await books.sql("SELECT disposition FROM calls") == "optedOut"
        assert await books.sql("SELECT count(*) FROM do_not_call") == 1
        await engine.dispose()
