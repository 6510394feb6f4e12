"""Personal data at rest: nothing readable in the database, keys rotated while people are called, and erasure."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    CAMPAIGN,
    CONSENT,
    KEY,
    NAMESPACE,
    OWNER,
    POD,
    RING,
    RUN,
    SUBJECTS,
    Books,
    billed,
    number,
    open_books,
)

from callfleet_core.contacts import ContactIn
from callfleet_core.crypto import CryptoError, ErasedError, Keyring, KeyringError
from callfleet_core.dialing import DialStore, Verdict
from callfleet_core.privacy import Erasure, Privacy
from callfleet_core.records import CallOutcome, CallRecords, LeadFields, Turn
from callfleet_core.runs import CampaignRuns, Run
from callfleet_core.subjects import Subjects

NAME, SAID = "Maximiliane Musterfrau", "My garden gnome costs a fortune."
HERS = Run(NAMESPACE, CAMPAIGN, RUN)
NEWER = Keyring({**RING.keys, 2: b"another key of thirty-two bytes!"})


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    books = await open_books(engine, people=3)
    await books.runs.load(HERS, [ContactIn(number(index), NAME, CONSENT) for index in range(3)])
    return books


async def talked(books: Books, index: int = 0) -> UUID:
    """A call in which something was said, over and settled."""
    attempt = await books.held(index)
    order = (await books.dialing.begin_dial(attempt, POD, uuid4())).order
    assert order is not None
    records = CallRecords(books.engine)
    turn = Turn(agent_type="qualifier", message_type="user", content=SAID, at=datetime.now(UTC))
    await records.add_turns(attempt, [turn], first_seq=0, key=order.subject_key, owner=OWNER)
    lead = LeadFields.model_validate({"qualification_score": "0.75", "fields": {"wish": "a gnome"}})
    await records.finish(attempt, CallOutcome(disposition="qualified", turns=1), lead, [], owner=OWNER)
    await books.ended(attempt)
    await books.ledger.settle(attempt, billed(70))
    return attempt


async def everything(books: Books) -> str:
    """Every row of every table, as text."""
    async with books.engine.connect() as connection:
        tables = (
            await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        ).scalars()
        rows = [
            str((await connection.execute(text(f"SELECT array_agg(t::text) FROM {table} t"))).scalar())  # noqa: S608 - ours
            for table in list(tables)
        ]
    return "\n".join(rows)


async def test_nothing_personal_can_be_read_in_the_database(books: Books) -> None:
    await talked(books)
    stored = await everything(books)
    for secret in (number(0), number(0)[1:], NAME, "Musterfrau", SAID, "gnome costs"):
        assert secret not in stored
        assert secret.encode().hex() not in stored
    assert CAMPAIGN in stored  # that we looked at all


async def test_the_worker_reads_whom_it_calls_and_nobody_of_another_namespace(books: Books) -> None:
    attempt = await books.held()
    stranger = DialStore(books.engine, RING.of_namespace("clinic"))
    with pytest.raises(CryptoError):
        await stranger.begin_dial(attempt, POD, uuid4())
    assert await books.sql("SELECT state FROM dial_attempts WHERE id = :id", id=attempt) == "granted"
    decision = await books.dialing.begin_dial(attempt, POD, uuid4())
    assert decision.order is not None
    assert (decision.order.to, decision.order.contact_name) == (number(0), NAME)
    assert "subject_key" not in decision.model_dump_json()
    assert number(0) in repr(decision.order)  # as before: an order is never logged whole
    assert RING.keys[1].hex() not in repr(decision)


async def test_the_operator_reads_the_numbers_of_an_attempt(books: Books) -> None:
    attempt = await books.held(1)
    assert (await Privacy(books.engine, SUBJECTS).numbers(attempt)).to == number(1)
    assert await books.contacts.prefixes([books.people[1]]) == {books.people[1]: number(1)[:6]}


async def test_a_changed_name_is_stored_under_the_key_that_there_is(books: Books) -> None:
    key = await books.key()
    await books.runs.load(HERS, [ContactIn(number(0), "Erika", CONSENT), ContactIn(number(1), None, CONSENT)])
    assert await books.key() == key
    attempts = [await books.held(index) for index in (0, 1)]
    orders = [(await books.dialing.begin_dial(attempt, POD, uuid4())).order for attempt in attempts]
    assert [order and order.contact_name for order in orders] == ["Erika", None]


async def test_keys_rotate_page_by_page_and_may_be_stopped_at_any_moment(books: Books) -> None:
    call = await talked(books)
    privacy = Privacy(books.engine, Subjects(NEWER, KEY))
    assert await privacy.left_to_rotate(2) == 3
    await books.sql("UPDATE contacts SET wrapped_key = wrapped_key")  # everything is still the old one's
    assert await privacy.rotate(2) == 3
    assert (await privacy.rotate(2), await privacy.left_to_rotate(2)) == (0, 0)
    only_new = Keyring({2: NEWER.keys[2]})
    said = await books.sql("SELECT content FROM conversations WHERE call_id = :call", call=call)
    row = await _row(books, 0)
    assert Subjects(only_new, KEY).key(row).decrypt("conversations.content", bytes(said)) == SAID
    with pytest.raises(KeyringError, match="version 2"):
        SUBJECTS.key(row)


async def test_a_rotation_without_the_old_key_says_so_and_loses_nothing(books: Books) -> None:
    with pytest.raises(KeyringError, match="version 1 of the encryption key is missing"):
        await Privacy(books.engine, Subjects(Keyring({2: NEWER.keys[2]}), KEY)).rotate(2)
    assert (await books.key()).subject == books.people[0]


async def test_new_people_get_the_newest_key(books: Books) -> None:
    runs = CampaignRuns(books.engine, Subjects(NEWER, KEY), lambda: books.ledger.epoch)
    await runs.load(HERS, [ContactIn(number(index), NAME, CONSENT) for index in range(4)])
    versions = await books.sql("SELECT array_agg(key_version ORDER BY key_version) FROM contacts")
    assert versions == [1, 1, 1, 2]


async def test_an_erased_person_is_gone_and_the_books_still_balance(books: Books) -> None:
    call, privacy = await talked(books), Privacy(books.engine, SUBJECTS)
    before = await books.budget()
    backup = await _row(books, 0)
    assert await privacy.erase(books.people[0]) is Erasure.ERASED
    assert await privacy.erase(books.people[0]) is Erasure.ERASED  # again: nothing new
    row = await _row(books, 0)
    assert (row["phone"], row["name"], row["wrapped_key"]) == (None, None, None)
    with pytest.raises(ErasedError):
        SUBJECTS.key(row)
    assert SUBJECTS.open(backup).phone == number(0)  # a backup from before has the key, too (docs/privacy.md)
    with pytest.raises(CryptoError):
        Subjects(Keyring({1: b"another key of thirty-two bytes.."[:32]}), KEY).open(
            backup
        )  # of no use without the master key
    assert await books.sql("SELECT count(*) FROM audit_log WHERE action = 'contact.erase'") == 1
    assert await books.sql("SELECT fields::text FROM lead_scores WHERE call_id = :call", call=call) == "{}"
    assert await books.sql("SELECT length(content) FROM conversations WHERE call_id = :call", call=call) == 0
    assert await books.budget() == before
    assert await books.ledger.overspent_accounts() == []


async def test_an_erased_person_is_never_called_again_whatever_lists_say(books: Books) -> None:
    privacy = Privacy(books.engine, SUBJECTS)
    await privacy.erase(books.people[0])
    await books.runs.load(HERS, [ContactIn(number(0), NAME, CONSENT)])
    assert (await _row(books, 0))["wrapped_key"] is None
    assert await books.contacts.refusals([(books.people[0], None)]) == ["DoNotCall"]
    assert (await books.hold(0)).result.value == "DoNotCall"


async def test_whoever_is_being_called_is_not_erased_meanwhile(books: Books) -> None:
    attempt, privacy = await books.held(), Privacy(books.engine, SUBJECTS)
    assert await privacy.erase(books.people[0]) is Erasure.OPEN
    assert (await books.dialing.begin_dial(attempt, POD, uuid4())).verdict is Verdict.GO
    assert await privacy.erase(books.people[0]) is Erasure.OPEN
    await books.ended(attempt)
    assert await privacy.erase(books.people[0]) is Erasure.ERASED
    assert await privacy.erase(uuid4()) is Erasure.UNKNOWN


async def _row(books: Books, index: int) -> dict[str, object]:
    async with books.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT id, namespace, phone, name, key_version, wrapped_key FROM contacts WHERE id = :id"),
            {"id": books.people[index]},
        )
        return dict(rows.mappings().one())
