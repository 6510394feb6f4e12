"""What may be met while a ledger is rebuilt: whose a call was, lists that cannot be read, days, and a person's word."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import BUDGET, CAMPAIGN, CONSENT, NAMESPACE, RUN, login_url, number
from tests.integration.operator_parts import campaign_body
from tests.integration.restored import GROUP, HOLD_MICROS, MERGE, World, open_world

from callfleet_core.contacts import ConsentIn, ContactIn
from callfleet_core.db.migrate import migrate, revisions
from callfleet_core.ledger import HoldResult, account_key
from callfleet_core.recovery import RecoveryDesk
from callfleet_core.runs import Run
from callfleet_simulator.calls import CallStatus
from callfleet_simulator.faults import Fault, Kind


@pytest.fixture
async def world(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[World]:
    async with open_world(engine, server, total="1") as world:
        yield world


async def opened(world: World) -> None:
    """Reads the lists until it is open, which must be soon."""
    for later in (0, 61, 122, 183):
        if await world.read_lists(later) is None:
            return
    raise AssertionError(world.operator.context.trust.recovering)


async def test_a_carrier_that_is_away_keeps_it_closed_and_nothing_is_booked_twice(world: World) -> None:
    for index in range(3):
        world.listed(index)
    # The calls that were dialled are listed and booked; then those that wait cannot be.
    world.carrier.faults.add_all([Fault(kind=Kind.SERVER_ERROR, requests=["list"], probability=0.5)])
    async with world.doubted() as back:
        problems = set()
        for later in range(0, 1_000, 61):
            problems.add(await back.read_lists(later))
        assert any("the carrier answers with HTTP 500" in (problem or "") for problem in problems)
        back.carrier.faults.clear()
        await back.read_lists(2_000)
        await back.read_lists(2_061)
        assert await back.read_lists(2_122) is None
        assert await back.books.sql("SELECT count(*) FROM dial_attempts") == 3
        # In all three windows of the campaign and of the Budget.
        assert await back.books.sql("SELECT count(*) FROM ledger_entries WHERE kind = 'recovery'") == 3 * 6
        assert len(await back.lost()) == 3
        await back.settle()
        assert await back.books.budget() == (0, 3 * HOLD_MICROS)
        assert await back.books.unbalanced() == 0


async def test_what_was_spent_above_the_limit_is_no_overspending_but_leaves_nothing(world: World) -> None:
    world.raise_limit("0.05")
    await world.put_in_force()
    for index in range(3):
        world.listed(index)
    async with world.doubted() as back:
        await opened(back)
        assert await back.books.budget() == (3 * HOLD_MICROS, 0)
        assert (await back.holds())[5] is HoldResult.BUDGET_HELD
        await back.settle()
        assert await back.books.budget() == (0, 3 * HOLD_MICROS)
        assert (await back.holds())[5] is HoldResult.BUDGET_EXHAUSTED
        assert await back.books.ledger.overspent_accounts() == []
        assert await back.books.unbalanced() == 0


async def test_a_call_belongs_to_the_days_in_which_it_was_made(world: World) -> None:
    path = f"{GROUP}/{NAMESPACE}/budgets/{BUDGET}"
    world.server.request("PATCH", path, {"spec": {"limits": {"daily": "0.5"}}}, MERGE)
    await world.put_in_force()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    world.listed(0, date_created=yesterday, start_time=yesterday)
    world.listed(1)
    async with world.doubted(trusted_s_ago=2 * 86_400) as back:
        await opened(back)
        await back.settle()
        for day in (yesterday, datetime.now(UTC)):
            key = account_key(NAMESPACE, "Budget", BUDGET).replace("total", f"daily/{day:%Y-%m-%d}")
            balance = await back.books.ledger.balance(key)
            assert balance is not None
            assert balance.spent_micros == HOLD_MICROS
        assert await back.books.budget() == (0, 2 * HOLD_MICROS)


async def test_what_was_called_before_the_last_trusted_moment_is_left_alone(world: World) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    world.listed(0, date_created=long_ago, start_time=long_ago)
    async with world.doubted() as back:
        await opened(back)
        assert await back.lost() == []


async def test_other_peoples_calls_of_the_account_are_left_alone(world: World) -> None:
    world.listed(0, from_="+15550100177")
    async with world.doubted() as back:
        await opened(back)
        assert await back.lost() == []
        assert (await back.holds())[0] is HoldResult.HELD


async def test_a_call_that_two_campaigns_may_have_made_is_paid_and_closed_by_both(world: World) -> None:
    consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
    people = [{"phone": number(0), "consent": consent}]
    world.operator.apply(
        campaign_body(NAMESPACE, "autumn", contacts={"inline": people}, call={"from": ["+15550100001"]})
    )
    await world.operator.reconcile(NAMESPACE, "autumn")
    await world.operator.reconcile(NAMESPACE, "autumn")
    world.listed(0)
    async with world.doubted() as back:
        await opened(back)
        await back.settle()
        for campaign in ("autumn", CAMPAIGN):
            balance = await back.books.ledger.balance(account_key(NAMESPACE, "Campaign", campaign))
            assert balance is not None
            assert balance.spent_micros == HOLD_MICROS
            found = await back.operator.context.runs.find(Run(NAMESPACE, campaign, "1"), back.books.people[0])
            assert found is not None
            assert (found.state, found.disposition) == ("Completed", "answered")
        assert await back.books.budget() == (0, HOLD_MICROS)


async def test_somebody_on_no_list_any_more_is_not_called_when_the_list_comes_back(world: World) -> None:
    stranger = ContactIn(number(50), None, ConsentIn("express-written", "web form", CONSENT.given_at))
    world.listed(50)
    async with world.doubted() as back:
        await opened(back)
        run = Run(NAMESPACE, CAMPAIGN, RUN)
        await back.operator.context.runs.load(run, [stranger])
        assert await back.operator.context.runs.due(run, 10) == []


async def test_a_call_without_a_campaign_is_the_installations(world: World) -> None:
    granted = await world.granted(0)  # so that the number is known as ours
    world.listed(1)
    await world.dialled(0, granted)
    clear_campaigns(world)
    async with world.doubted() as back:
        await back.operator.context.contacts.close_campaign(NAMESPACE, CAMPAIGN)
        await opened(back)
        await back.settle()
        spent = "SELECT sum(spent_micros) FROM accounts WHERE kind = 'Installation'"
        assert await back.books.sql(spent) == 2 * HOLD_MICROS  # of the day and of the month
        found = await back.operator.context.runs.find(Run(NAMESPACE, CAMPAIGN, RUN), back.books.people[1])
        assert found is not None
        assert found.state == "Completed"  # applied again, the campaign does not call them


def clear_campaigns(world: World) -> None:
    path = f"{GROUP}/{NAMESPACE}/campaigns/{CAMPAIGN}"
    world.server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
    world.server.request("DELETE", path)


async def test_a_grant_that_was_dialled_is_not_taken_back_before_its_call_is_found(world: World) -> None:
    attempt = await world.granted(0)
    call = world.listed(0)
    async with world.doubted() as back:
        await back.settle()  # its pod is gone, by which a grant is taken back at other times
        assert await back.books.sql("SELECT state FROM dial_attempts") == "granted"
        await opened(back)
        await back.settle()
        assert await back.books.sql("SELECT id FROM dial_attempts WHERE call_sid = :sid", sid=call.sid) == attempt
        assert await back.books.budget() == (0, HOLD_MICROS)


async def test_a_dial_whose_sid_was_lost_is_found_by_the_number(world: World) -> None:
    attempt = await world.granted(0)
    call = world.listed(0)
    await world.books.dialed(attempt, call.sid)
    await world.books.sql("UPDATE dial_attempts SET call_sid = NULL, placed_at = NULL, state = 'dialing'")
    async with world.doubted() as back:
        await opened(back)
        await back.settle()
        assert await back.books.sql("SELECT call_sid || ' ' || state FROM dial_attempts") == f"{call.sid} settled"
        assert await back.books.budget() == (0, HOLD_MICROS)


async def test_a_live_call_waits_until_another_one_to_its_number_is_over(world: World) -> None:
    attempt = await world.granted(0)
    first = world.listed(0, CallStatus.IN_PROGRESS, date_created=datetime.now(UTC) - timedelta(minutes=20))
    await world.books.dialed(attempt, first.sid)
    second = world.listed(0, CallStatus.IN_PROGRESS)
    async with world.doubted() as back:
        assert "1 live calls cannot be booked" in (await back.read_lists() or "") + await problem(back)
        await back.books.ended(attempt)
        second.move(CallStatus.COMPLETED)
        second.duration_s = 70
        for later in (61, 122):
            await back.read_lists(later)
        await opened(back)
        await back.settle()
        assert await back.books.budget() == (0, 2 * HOLD_MICROS)


async def problem(world: World) -> str:
    return str(await world.books.sql("SELECT recovery_problem FROM installation"))


async def test_a_session_of_a_forgotten_call_is_left_as_it_is_until_the_call_is_booked(world: World) -> None:
    attempt = await world.called(0, status="in-progress")
    await world.books.sql("ALTER TABLE ledger_entries DISABLE TRIGGER USER")
    for table, column in (("calls", "id"), ("ledger_entries", "attempt_id"), ("dial_attempts", "id")):
        await world.books.sql(f"DELETE FROM {table} WHERE {column} = :id", id=attempt)  # noqa: S608  # ours
    await world.books.sql("UPDATE accounts SET held_micros = 0")
    async with world.doubted() as back:
        await back.operator.tend_sessions(NAMESPACE)
        status = back.server.request("GET", back.path(0))["status"]
        assert (status["state"], status["attempt"]["id"]) == ("InProgress", str(attempt))
        before = len(back.operator.context.queue)
        await opened(back)
        # Now that the database knows their calls, all sessions are looked at again.
        assert len(back.operator.context.queue) - before >= len(back.operator.context.store.sessions(NAMESPACE))
        assert await back.books.sql(
            "SELECT state || ' ' || session_name FROM dial_attempts WHERE id = :id", id=attempt
        ) == (f"placed {back.name(0)}")
        assert await back.books.budget() == (HOLD_MICROS, 0)


async def test_an_auditor_sees_how_far_it_is_and_may_open_by_hand(world: World, database_url: str) -> None:
    url = await login_url(world.books, database_url, "callfleet_auditor")
    given = {"DATABASE_URL": url, "CALLFLEET_ACTOR": "Ada"}
    code, out, _ = await callfleet("recovery", **given)
    assert (code, out.startswith("open; the database was seen last at ")) == (0, True)
    code, _, err = await callfleet("recovery", "open", "--reason", "why not", **given)
    assert (code, "nothing is being rebuilt" in err) == (1, True)
    world.listed(0)
    async with world.doubted() as back:
        await back.read_lists()
        code, out, _ = await callfleet("recovery", "--json", **given)
        assert (code, json.loads(out)["recovery_passes"]) == (0, 1)
        code, out, _ = await callfleet("recovery", **given)
        assert "readings of the carrier's lists: 1 of 2" in out
        code, out, err = await callfleet("recovery", "open", "--reason", "compared by hand", **given)
        assert code == 0, err
        assert await back.read_lists(61) is None
        told = "SELECT actor || ' ' || action || ' ' || reason FROM audit_log ORDER BY id DESC LIMIT 1"
        assert await back.books.sql(told) == "Ada recovery.open compared by hand"
        assert (await back.holds())[0] is HoldResult.CLOSED


async def test_where_a_person_is_to_open_it_stays_closed_when_all_is_booked(world: World) -> None:
    world.listed(0)
    async with world.doubted() as back:
        back.operator.context.settings.callfleet_recovery_by_hand = True
        for later in (0, 61, 122):
            said = await back.read_lists(later)
        assert str(said).endswith("; all is booked, and `callfleet ledger recovery open` opens it")
        assert (await back.holds())[1] is HoldResult.STOPPED
        assert await RecoveryDesk(back.books.engine).open("Ada", "opt-outs imported again")
        assert await back.read_lists(183) is None
        assert (await back.holds())[1] is HoldResult.HELD


async def callfleet(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """The command, as somebody runs it: its exit code, output and errors."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet", "ledger", *arguments,
        env={**kept, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_what_was_booked_again_stays_in_the_balances_where_a_release_knows_no_recovery(
    world: World, database_url: str
) -> None:
    world.listed(0)
    async with world.doubted() as back:
        await back.read_lists()
        before = await back.books.budget()
        await back.books.engine.dispose()
        known = revisions()
        migrate(database_url, known[known.index("0009") + 1], down=True)
        assert await back.books.sql("SELECT stopped FROM installation") is True
        assert (await back.books.budget(), await back.books.unbalanced()) == (before, 0)
        assert await back.books.ledger.overspent_accounts() == []
        # As that release settles: an attempt at a time.
        settled = "SELECT ledger_settle((SELECT epoch FROM installation), id, '[]') FROM dial_attempts"
        assert await back.books.sql(settled) == "settled"
        assert (await back.books.budget(), await back.books.unbalanced()) == ((0, 0), 0)
        await back.books.engine.dispose()
        migrate(database_url)
        assert await back.books.unbalanced() == 0
