"""Attempts whose truth nobody could find: shown without a person, resolved by a person's word, audited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import api_server
from tests.integration.books import (
    BUDGET,
    CAMPAIGN,
    HOLD_MICROS,
    NAMESPACE,
    POD,
    Books,
    billed,
    login,
    login_url,
    number,
)
from tests.integration.office import open_office
from tests.integration.operator_parts import walk_attempts

from callfleet_core.attempts import AttemptDesk, AttemptFacts, Need, Resolution, ResolveRefusedError, Verdict
from callfleet_core.errors import CallFleetError
from callfleet_core.ledger import HoldResult, account_key

SID, OTHER = "CA" + "1" * 32, "CA" + "2" * 32


async def overdue(books: Books, attempt: UUID) -> UUID:
    """Long after the carrier must have ended the call."""
    await books.sql(
        "UPDATE dial_attempts SET begun_at = begun_at - interval '2 hours', placed_at = placed_at - interval '2 hours',"
        " answered_at = answered_at - interval '2 hours' WHERE id = :id",
        id=attempt,
    )
    return attempt


async def forgotten(books: Books, index: int = 0, sid: str = SID) -> UUID:
    """A placed call that the carrier answers 404 for."""
    attempt = await books.held(index)
    await books.dialed(attempt, sid)
    return await overdue(books, attempt)


async def unresolved(books: Books, index: int = 0) -> UUID:
    """A dial that the carrier knows nothing of; its money is held for a day."""
    attempt = await books.held(index)
    await books.dialing.begin_dial(attempt, POD, uuid4())
    await books.ended(attempt, "unresolved", None)
    return attempt


def said(verdict: Verdict, duration_s: int | None = None, call_sid: str | None = None) -> Resolution:
    return Resolution(verdict, "Ada Auditor", "the carrier's support looked it up", duration_s, call_sid)


async def resolve(books: Books, attempt: UUID, resolution: Resolution) -> AttemptFacts:
    return await AttemptDesk(books.engine).resolve(attempt, resolution)


async def audited(books: Books) -> list[dict[str, Any]]:
    rows = await books.sql("SELECT COALESCE(jsonb_agg(to_jsonb(a) ORDER BY id), '[]') FROM audit_log a")
    return list(rows)


async def test_what_needs_a_decision_is_told_apart_from_what_the_operator_ends(books: Books) -> None:
    live, gone, lost = await books.held(0), await forgotten(books, 1), await unresolved(books, 2)
    desk = AttemptDesk(books.engine)
    listed = {item.id: item.needs for item in await desk.list()}
    assert listed == {live: None, gone: Need.OVERDUE, lost: Need.UNRESOLVED}
    assert [item.id for item in await desk.list(needs=frozenset({Need.OVERDUE}))] == [gone]
    assert [item.id for item in await desk.list(needs=frozenset({Need.UNRESOLVED}))] == [lost]
    assert [item.id for item in await desk.list(state="granted", namespace=NAMESPACE)] == [live]
    assert await desk.list(namespace="elsewhere") == []


async def test_what_is_held_until_somebody_has_decided_is_told_by_account(books: Books) -> None:
    accounts = [account_key(NAMESPACE, "Budget", BUDGET), account_key(NAMESPACE, "Campaign", CAMPAIGN)]
    over, silent = await books.held(0), await books.held(1)
    for attempt, sid in ((over, SID), (silent, OTHER)):
        await books.dialed(attempt, sid)
    assert await books.ended(over)
    assert await books.ended(silent, "completed", None)
    assert await books.ledger.unresolved_holds() == {}  # the carrier may still tell its length
    await books.sql("UPDATE dial_attempts SET ended_at = ended_at - interval '11 minutes'")
    assert await books.ledger.unresolved_holds() == dict.fromkeys(accounts, HOLD_MICROS)
    await forgotten(books, 2, "CA" + "3" * 32)
    await unresolved(books, 3)
    assert await books.ledger.unresolved_holds() == dict.fromkeys(accounts, 3 * HOLD_MICROS)
    for item in await books.ledger.unsettled_attempts():
        await books.ledger.settle(item.id, [])
    assert await books.ledger.unresolved_holds() == dict.fromkeys(accounts, HOLD_MICROS)  # one may still be live


async def test_an_unresolved_dial_that_was_none_gives_its_money_back_and_is_not_dialled_again(books: Books) -> None:
    attempt = await unresolved(books)
    assert (await resolve(books, attempt, said(Verdict.NOT_PLACED))).end_status == "notPlaced"
    assert await books.budget() == (HOLD_MICROS, 0)  # the operator settles it, as ever
    assert [item.id for item in await books.ledger.unsettled_attempts()] == [attempt]
    await books.ledger.settle(attempt, [])
    assert await books.budget() == (0, 0)
    assert (await books.hold(number=2, max_attempts=1)).result is HoldResult.CLOSED
    # The carrier remembers the call after all: it posts.
    assert await books.dialing.record_placed(attempt, SID) == "placed"
    assert await books.ended(attempt, "completed", 70)
    await books.ledger.settle(attempt, billed(70))
    assert await books.budget() == (0, 36_000)
    assert await books.unbalanced() == 0


async def test_an_unresolved_dial_that_took_place_is_settled_at_its_cost(books: Books) -> None:
    attempt = await unresolved(books)
    found = await resolve(books, attempt, said(Verdict.COMPLETED, 70, SID))
    assert (found.state, found.end_status, found.duration_s, found.call_sid) == ("ended", "completed", 70, SID)
    await books.ledger.settle(attempt, billed(70))
    assert await books.budget() == (0, 36_000)


async def test_evidence_after_the_days_patience_still_posts(books: Books) -> None:
    attempt = await unresolved(books)
    await books.ledger.settle(attempt, [])
    with pytest.raises(ResolveRefusedError, match="its money was returned already"):
        await resolve(books, attempt, said(Verdict.NOT_PLACED))
    await resolve(books, attempt, said(Verdict.COMPLETED, 70, SID))
    assert [item.id for item in await books.ledger.unsettled_attempts()] == [attempt]
    await books.ledger.settle(attempt, billed(70))
    assert await books.budget() == (0, 36_000)
    with pytest.raises(ResolveRefusedError, match="needs nobody's word"):
        await resolve(books, attempt, said(Verdict.FAILED))


async def test_a_call_that_the_carrier_forgot_ends_as_somebody_found_out(books: Books) -> None:
    attempt = await forgotten(books)
    with pytest.raises(ResolveRefusedError, match=f"placed this call as {SID}: resolve it as"):
        await resolve(books, attempt, said(Verdict.NOT_PLACED))
    with pytest.raises(ResolveRefusedError, match="another call's end"):
        await resolve(books, attempt, said(Verdict.FAILED, call_sid=OTHER))
    assert await audited(books) == []
    await resolve(books, attempt, said(Verdict.FAILED))
    await books.ledger.settle(attempt, [])
    assert await books.budget() == (0, 0)
    assert await books.sql("SELECT status FROM calls WHERE id = :id", id=attempt) == "failed"


async def test_a_dial_whose_worker_is_gone_can_be_said_to_have_been_none(books: Books) -> None:
    attempt = await books.held()
    await books.dialing.begin_dial(attempt, POD, uuid4())
    with pytest.raises(ResolveRefusedError, match="may still be live: it can be resolved after 20"):
        await resolve(books, attempt, said(Verdict.NOT_PLACED))
    await resolve(books, await overdue(books, attempt), said(Verdict.NOT_PLACED))
    await books.ledger.settle(attempt, [])
    (latest,) = (await books.ledger.latest_attempts(NAMESPACE, [f"{CAMPAIGN}-1-0"])).values()
    assert (latest.state, latest.counts, latest.actual_micros) == ("settled", True, 0)


async def test_a_completed_call_without_a_duration_gets_one_and_nothing_else(books: Books) -> None:
    attempt = await books.held()
    await books.dialed(attempt, SID)
    await books.ended(attempt, "completed", None)
    with pytest.raises(ResolveRefusedError, match="ended and needs nobody's word"):
        await resolve(books, attempt, said(Verdict.COMPLETED, 59))
    await books.sql("UPDATE dial_attempts SET ended_at = ended_at - interval '1 hour'")
    with pytest.raises(ResolveRefusedError, match="only its duration is missing"):
        await resolve(books, attempt, said(Verdict.FAILED))
    assert (await resolve(books, attempt, said(Verdict.COMPLETED, 59))).duration_s == 59
    await books.ledger.settle(attempt, billed(59))
    assert await books.budget() == (0, 18_000)


@pytest.mark.parametrize(
    ("resolution", "sentence"),
    [
        (said(Verdict.COMPLETED), "give --duration SECONDS"),
        (said(Verdict.COMPLETED, 121), "the carrier ends it at its time limit"),
        (said(Verdict.FAILED, 5), "leave --duration out"),
        (said(Verdict.COMPLETED, 5, "CA12"), "CA and 32 hexadecimal digits"),
        (said(Verdict.COMPLETED, 5, OTHER), "this call is another attempt's"),
        (Resolution(Verdict.FAILED, " ", "why not"), "say who decides"),
        (Resolution(Verdict.FAILED, "Ada", ""), "say why"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    books: Books, resolution: Resolution, sentence: str
) -> None:
    attempt = await unresolved(books)
    await books.dialed(await books.held(1), OTHER)
    before = await books.sql("SELECT jsonb_agg(to_jsonb(a) ORDER BY id) FROM dial_attempts a")
    with pytest.raises(CallFleetError, match=sentence):
        await resolve(books, attempt, resolution)
    assert await books.sql("SELECT jsonb_agg(to_jsonb(a) ORDER BY id) FROM dial_attempts a") == before
    assert await audited(books) == []


async def test_every_decision_is_in_the_audit_log_and_stays_there(books: Books) -> None:
    attempt = await unresolved(books)
    await resolve(books, attempt, said(Verdict.FAILED))
    with pytest.raises(ResolveRefusedError, match="needs nobody's word"):
        await resolve(books, attempt, said(Verdict.FAILED))
    (entry,) = await audited(books)
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada Auditor", "attempt.resolve", str(attempt))
    assert (entry["before"]["end_status"], entry["after"]["end_status"]) == ("unresolved", "failed")
    assert entry["reason"] == "the carrier's support looked it up"
    for change in ("UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(DBAPIError, match="append-only"):
            await books.sql(change)
    assert await audited(books) == [entry]


async def test_the_auditors_role_sees_no_person_and_decides_nothing_else(books: Books, database_url: str) -> None:
    attempt = await unresolved(books)
    engine = await login(books, database_url, "callfleet_auditor")
    try:
        desk = AttemptDesk(engine)
        assert [item.id for item in await desk.list()] == [attempt]
        await desk.resolve(attempt, said(Verdict.NOT_PLACED))
        auditor = Books(engine, books.ledger, books.dialing, books.contacts, books.runs)
        for statement in (
            "SELECT phone FROM contacts",
            "SELECT from_number FROM dial_attempts",
            "SELECT content FROM conversations",
            "UPDATE dial_attempts SET state = 'settled'",
            "SELECT record_ended(gen_random_uuid(), '{}')",
            "SELECT ledger_correct(1, gen_random_uuid(), '2026-11-21', 0)",
            "INSERT INTO audit_log (actor, action, subject, reason) VALUES ('a', 'b', 'c', 'd')",
            "DELETE FROM audit_log",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                await auditor.sql(statement)
    finally:
        await engine.dispose()
    (entry,) = await audited(books)
    assert entry["login"] == engine.url.username


def callfleet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, as somebody runs it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    argv = [sys.executable, "-m", "callfleet", "attempts", *arguments]
    return subprocess.run(argv, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_shows_and_resolves_without_naming_anybody(books: Books, database_url: str) -> None:
    attempt, gone = await unresolved(books, 0), await forgotten(books, 1)
    await books.ledger.note_lookup(attempt, empty=True)
    given = {"DATABASE_URL": await login_url(books, database_url, "callfleet_auditor"), "CALLFLEET_ACTOR": "Ada"}
    shown = callfleet("list", **given)
    assert shown.returncode == 0, shown.stderr
    first, second = shown.stdout.splitlines()[1:]
    assert first.split()[:5] == [str(attempt), f"{NAMESPACE}/{CAMPAIGN}-1-0", "ended", "(unresolved)", "Unresolved"]
    assert "0.036 USD" in first
    assert "1 empty" in first
    assert second.split()[3:5] == ["Overdue", "2h0m"]
    listed = json.loads(callfleet("list", "--overdue", "--json", **given).stdout)
    assert [(item["id"], item["held_micros"], item["needs"]) for item in listed] == [(str(gone), 36_000, "Overdue")]
    assert not any(number(index) in shown.stdout + json.dumps(listed) for index in range(2))
    done = callfleet("resolve", str(attempt), "--as", "not-placed", "--reason", "not in their console", **given)
    assert (done.returncode, "is resolved as not-placed; 0.036 USD stay held" in done.stdout) == (0, True), done.stderr
    again = callfleet("resolve", str(uuid4()), "--as", "failed", "--reason", "a typing error", **given)
    assert again.returncode == 1
    assert again.stderr == (
        "callfleet: there is no attempt of this ID: `callfleet attempts list` shows those that there are\n"
    )


async def test_what_somebody_said_is_settled_by_the_operator(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    with api_server(tmp_path) as server:
        async with open_office(engine, database_url, server) as office:
            books, context = office.books, office.operator.context
            call = office.listed(0)
            gone = await books.held(0)
            await books.dialed(gone, call.sid)
            office.carrier.delete(call)
            unknown = await unresolved(books, 1)
            await overdue(books, gone)
            await walk_attempts(context)
            asked = await AttemptDesk(engine).get(gone)
            assert asked is not None
            assert (asked.state, asked.needs, asked.last_lookup_at is None) == ("placed", Need.OVERDUE, False)
            assert await books.budget() == (2 * HOLD_MICROS, 0)
            await resolve(books, gone, said(Verdict.COMPLETED, 70))
            await resolve(books, unknown, said(Verdict.NOT_PLACED))
            await walk_attempts(context)
            assert await books.budget() == (0, 36_000)
            assert await books.unbalanced() == 0
            assert await AttemptDesk(engine).list() == []


async def test_another_login_is_told_which_role_it_needs(books: Books, database_url: str) -> None:
    url = await login_url(books, database_url, "callfleet_worker")
    done = callfleet("list", DATABASE_URL=url)
    assert done.returncode == 1
    assert "needs the role callfleet_auditor" in done.stderr
    assert "Traceback" not in done.stderr
