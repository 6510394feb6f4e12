"""Who said "don't call me again", or was put on the list, is called by no campaign any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import KEY, NAMESPACE, OWNER, POD, RING, RUN, Books, consenting, number, open_books

from callfleet_core.ledger import HoldResult
from callfleet_core.records import CallOutcome, CallRecords
from callfleet_core.runs import Run

ANOTHER = "autumn"
WHO = ("--actor", "ada", "--reason", "a letter of 24 November")


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    """A campaign's, and another one's of the same people."""
    books = await open_books(engine, people=3)
    await books.contacts.mirror_campaign(
        namespace=NAMESPACE, name=ANOTHER, uid="campaign-2", generation=1, suspended=False, closed=False
    )
    await books.runs.load(Run(NAMESPACE, ANOTHER, RUN), [consenting(index) for index in range(3)])
    return books


async def opted_out(books: Books, index: int = 0) -> UUID:
    """A call in which the person said so, as the worker stores it."""
    attempt = await books.held(index)
    await books.dialed(attempt, f"CA{index:032d}")
    await books.ended(attempt)
    await CallRecords(books.engine).finish(attempt, CallOutcome(disposition="optedOut", turns=2), None, [], owner=OWNER)
    return attempt


async def asked_again(books: Books, index: int = 0) -> HoldResult:
    return (await books.hold(index, campaign=ANOTHER)).result


def do_not_call(books: Books, *arguments: str, phone: str = "", key: str = KEY.decode()) -> tuple[int, str]:
    """The command as a user runs it, with the number at its prompt; answers its exit code and what it said."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {
        **kept, "DATABASE_URL": books.engine.url.render_as_string(hide_password=False),
        "CALLFLEET_HASH_KEY": key, "CALLFLEET_ENCRYPTION_KEYS": RING.text(),
    }  # fmt: skip
    argv = [sys.executable, "-m", "callfleet", "do-not-call", *arguments, *(["--phone", phone] if phone else [])]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert number(0) not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


async def test_who_opted_out_is_called_by_no_campaign_and_in_no_run(books: Books) -> None:
    attempt = await opted_out(books)
    assert await asked_again(books) is HoldResult.DO_NOT_CALL
    assert await asked_again(books, 1) is HoldResult.HELD
    await books.runs.load(Run(NAMESPACE, ANOTHER, "2"), [consenting(0)])
    assert (await books.hold(0, campaign=ANOTHER, run_id="2")).result is HoldResult.DO_NOT_CALL
    row = "SELECT source || ' ' || attempt_id FROM do_not_call"
    assert await books.sql(row) == f"opt-out {attempt}"


async def test_a_grant_that_was_given_before_is_not_dialled(books: Books) -> None:
    given = await books.held(0)
    done, said = do_not_call(books, "add", "-n", NAMESPACE, *WHO, phone=number(0))
    assert (done, said.strip()) == (0, f"this number is on the list of namespace {NAMESPACE}")
    decision = await books.dialing.begin_dial(given, POD, uuid4())
    assert (decision.verdict, decision.reason) == ("refused", "DoNotCall")
    assert (await books.budget())[0] == 0  # its money came back


async def test_an_opt_out_outlives_a_newer_consent_until_somebody_takes_it_back(books: Books) -> None:
    await opted_out(books)
    later = consenting(0)
    assert later.consent is not None
    later = replace(later, consent=replace(later.consent, source="another web form"))
    await books.runs.load(Run(NAMESPACE, ANOTHER, RUN), [later, consenting(1), consenting(2)])
    assert await asked_again(books) is HoldResult.DO_NOT_CALL
    done, said = do_not_call(books, "remove", "-n", NAMESPACE, *WHO, phone=number(0))
    assert done == 0, said
    assert await asked_again(books) is HoldResult.HELD
    assert await books.sql("SELECT actor || ' ' || action FROM audit_log") == "ada do-not-call.remove"


async def test_the_list_of_a_namespace_is_not_that_of_another(books: Books) -> None:
    done, said = do_not_call(books, "add", "-n", "clinic", *WHO, phone=number(0))
    assert done == 0
    assert "nobody of namespace clinic was ever called or listed: see whether its name is right" in said
    assert await asked_again(books) is HoldResult.HELD
    assert do_not_call(books, "add", "--everywhere", *WHO, phone=number(1))[0] == 0
    assert await asked_again(books, 1) is HoldResult.DO_NOT_CALL


async def test_a_number_that_nobody_stored_yet_is_on_the_list(books: Books) -> None:
    assert do_not_call(books, "add", "-n", NAMESPACE, *WHO, phone=number(7))[0] == 0
    await books.runs.load(Run(NAMESPACE, ANOTHER, "2"), [consenting(7)])
    (new,) = await books.runs.due(Run(NAMESPACE, ANOTHER, "2"), 1)
    books.people.append(new.contact_id)
    assert (await books.hold(3, campaign=ANOTHER, run_id="2")).result is HoldResult.DO_NOT_CALL


async def test_the_list_is_shown_and_checked_without_numbers(books: Books) -> None:
    attempt = await opted_out(books)
    (row,) = json.loads(do_not_call(books, "check", "--json", phone=number(0))[1])
    assert (row["namespace"], row["source"], row["attempt_id"]) == (NAMESPACE, "opt-out", str(attempt))
    assert do_not_call(books, "check", phone=number(1)) == (0, "this number is on no list\n")
    assert str(attempt) in do_not_call(books, "list")[1]
    again = do_not_call(books, "add", "-n", NAMESPACE, *WHO, phone=number(0))
    assert again == (0, f"this number is on the list of namespace {NAMESPACE} already\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", *WHO), "say either --namespace or --everywhere"),
        (("add", "-n", "sales", "--everywhere", *WHO), "say either --namespace or --everywhere"),
        (("remove", "-n", "sales", *WHO), "this number is not on the list of namespace sales"),
        (("add", "-n", "sales", "--actor", "ada"), "Missing option '--reason'"),
        (("add", "-n", "sales", "--actor", "ada", "--reason", " "), "say why (--reason)"),
        (("add", "-n", "sales", "--actor", "a" * 201, "--reason", "a letter"), "say who decides (--actor)"),
    ],
)
async def test_wrong_words_are_answered_in_a_sentence(books: Books, arguments: tuple[str, ...], message: str) -> None:
    done, said = do_not_call(books, *arguments, phone=number(0))
    assert done != 0
    assert message in said


async def test_another_hash_key_than_the_installations_is_refused(books: Books) -> None:
    assert do_not_call(books, "add", "-n", NAMESPACE, *WHO, phone=number(0))[0] == 0
    done, said = do_not_call(books, "check", phone=number(0), key="another key of at least 32 characters")
    assert done == 1
    assert "is not the key that this installation's contacts were stored with" in said
