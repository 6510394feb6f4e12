"""What the demo's screen reads from PostgreSQL while a call goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from tests.integration.books import BUDGET, CAMPAIGN, HOLD_MICROS, NAMESPACE, OWNER, RUN, SUBJECTS, Books

from callfleet.demo.books import read_books
from callfleet.demo.scene import Budget, Saying
from callfleet_core.contacts import session_name
from callfleet_core.records import CallRecords, Turn
from callfleet_core.subjects import NAME


async def say(books: Books, call: UUID, first_seq: int, *texts: str, person: int = 0) -> None:
    turns = [
        Turn(
            agent_type="qualifier",
            message_type="user" if (first_seq + offset) % 2 else "assistant",
            content=text,
            at=datetime.now(UTC),
            metadata={},
        )
        for offset, text in enumerate(texts)
    ]
    await CallRecords(books.engine).add_turns(
        call, turns, first_seq=first_seq, key=await books.key(person), owner=OWNER
    )


async def test_before_any_call_there_is_a_budget_and_nobody_on_the_line(books: Books, database_url: str) -> None:
    read = read_books(database_url, NAMESPACE, SUBJECTS)
    assert list(read.budgets) == [Budget(BUDGET, "USD", 220_000, 0, 0)]
    assert list(read.talks) == []


async def test_a_held_but_not_dialled_session_holds_money_and_is_not_on_the_line(
    books: Books, database_url: str
) -> None:
    await books.held(0)
    read = read_books(database_url, NAMESPACE, SUBJECTS)
    assert read.budgets[0].held_micros == HOLD_MICROS
    assert list(read.talks) == []


async def test_the_live_call_is_read_turn_by_turn(books: Books, database_url: str) -> None:
    attempt = await books.held(0)
    await books.dialed(attempt)
    (ringing,) = read_books(database_url, NAMESPACE, SUBJECTS).talks
    assert ringing.on_the_line
    assert ringing.answered_s is None
    await books.dialing.record_answered(attempt, datetime.now(UTC), call_sid="CA" + "1" * 32)
    await say(books, attempt, 0, "Hello.", "Who is it?")
    await say(books, attempt, 2, "Robin.")
    (talk,) = read_books(database_url, NAMESPACE, SUBJECTS).talks
    assert talk.answered_s is not None
    assert 0 <= talk.answered_s < 60
    assert list(talk.sayings) == [Saying(True, "Hello."), Saying(False, "Who is it?"), Saying(True, "Robin.")]


async def test_the_last_call_stays_until_the_next_one_begins(books: Books, database_url: str) -> None:
    first = await books.held(0)
    await books.dialed(first, "CA" + "1" * 32)
    await say(books, first, 0, "Hello.")
    await books.ended(first)
    (over,) = read_books(database_url, NAMESPACE, SUBJECTS).talks
    assert not over.on_the_line
    assert list(over.sayings) == [Saying(True, "Hello.")]
    second = await books.held(1)
    await books.dialed(second, "CA" + "2" * 32)
    (live,) = read_books(database_url, NAMESPACE, SUBJECTS).talks
    assert live.on_the_line
    assert list(live.sayings) == []


async def test_contacts_are_called_by_their_names_where_they_have_one(books: Books, database_url: str) -> None:
    sealed = (await books.key()).encrypt(NAME, "Alex")
    await books.sql("UPDATE contacts SET name = :name WHERE id = :id", id=books.people[0], name=sealed)
    name = session_name(CAMPAIGN, RUN, books.people[0])
    assert dict(read_books(database_url, NAMESPACE, SUBJECTS).names) == {name: "Alex"}
    assert dict(read_books(database_url, "another", SUBJECTS).names) == {}
