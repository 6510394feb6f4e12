"""An overrun stops an account until somebody has looked: whatever day it is, and whoever's account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import (
    BUDGET,
    CAMPAIGN,
    NAMESPACE,
    Books,
    billed,
    login,
    login_url,
    open_books,
)

from callfleet_core.errors import CallFleetError
from callfleet_core.ledger import HoldResult, account_key
from callfleet_core.ledger.overruns import Overrun, OverrunDesk
from callfleet_core.windows import TOTAL, Window, WindowKind

CAMPAIGN_KEY = account_key(NAMESPACE, "Campaign", CAMPAIGN)
LIMIT = 1_000_000


@pytest.fixture
async def books(engine: AsyncEngine) -> Books:
    return await open_books(engine, limit_micros=LIMIT)


def day(number: int) -> Window:
    """The day that is `number` days from now; this one has just begun."""
    start = datetime.now(UTC) + timedelta(days=number, minutes=-1)
    return Window(WindowKind.DAILY, f"daily/{number}", start, start + timedelta(days=1))


def key_of(window: Window, kind: str = "Budget", name: str = BUDGET, namespace: str = NAMESPACE) -> str:
    return account_key(namespace, kind, name, window)


async def placed(books: Books, window: Window, index: int = 0) -> UUID:
    """A call that is paid for by the budget's window alone."""
    attempt = await books.held(index, accounts=(key_of(window),))
    await books.dialed(attempt, f"CA{index:032d}")
    return attempt


async def overrun(books: Books, attempt: UUID) -> None:
    """It costs twice what was held for it."""
    await books.ended(attempt, duration_s=200)
    await books.ledger.settle(attempt, billed(200))


async def tomorrow(books: Books) -> None:
    """Every window begins, and ends, a day sooner."""
    await books.sql(
        "UPDATE accounts SET window_start = window_start - interval '1 day', window_end = window_end - interval '1 day'"
    )


async def may_hold(books: Books, window: Window, index: int = 5) -> HoldResult:
    answer = await books.hold(index, accounts=(key_of(window),))
    if answer.result is HoldResult.HELD:
        await books.ledger.revoke(answer.attempt_id, "Expired")
    return answer.result


async def marks(books: Books) -> dict[str, list[str] | None]:
    """Accounts with their meters; None: not overrun."""
    return {each.key: each.overrun_meters if each.overrun else None for each in await books.ledger.balances()}


async def test_a_daily_budget_stays_stopped_at_midnight(books: Books) -> None:
    today, next_day = day(0), day(1)
    await books.limit(LIMIT, window=today)
    await overrun(books, await placed(books, today))
    await books.sql("UPDATE accounts SET overrun_meters = ARRAY['carrier_voice_minutes'] WHERE overrun")
    await books.limit(LIMIT, window=next_day)
    await tomorrow(books)
    assert (await marks(books))[key_of(next_day)] == ["carrier_voice_minutes"]
    assert await may_hold(books, next_day) is HoldResult.SUSPENDED
    await books.limit(LIMIT, window=next_day, generation=2)
    assert await may_hold(books, next_day) is HoldResult.HELD
    await books.limit(LIMIT, window=next_day, generation=2)
    assert (await marks(books))[key_of(next_day)] is None


async def test_what_overruns_after_its_day_stops_the_day_that_is(books: Books) -> None:
    today, next_day = day(0), day(1)
    await books.limit(LIMIT, window=today)
    attempt = await placed(books, today)
    await books.limit(LIMIT, window=next_day)
    await tomorrow(books)
    await overrun(books, attempt)
    assert await may_hold(books, next_day) is HoldResult.HELD
    assert [item.account for item in await OverrunDesk(books.engine).list()] == [key_of(next_day)]
    await books.limit(LIMIT, window=next_day)  # the operator puts limits in force again and again
    assert await may_hold(books, next_day) is HoldResult.SUSPENDED


async def test_another_object_or_window_takes_nothing_over(books: Books) -> None:
    today, month = day(0), Window(WindowKind.MONTHLY, "monthly/next", day(1).start, day(31).start)
    await books.limit(LIMIT, window=today)
    await overrun(books, await placed(books, today))
    await books.limit(LIMIT, window=month)
    await books.limit(LIMIT, window=day(-1))
    await books.limit(LIMIT, window=day(1), uid="budget-2")
    assert [key for key, meters in (await marks(books)).items() if meters is not None] == [key_of(today)]


async def test_who_has_looked_lets_it_go_on_and_is_audited(books: Books) -> None:
    today, next_day, desk = day(0), day(1), OverrunDesk(books.engine)
    await books.limit(LIMIT, window=today)
    await overrun(books, await placed(books, today))
    await books.limit(LIMIT, window=next_day)
    assert await desk.list() == [Overrun(key_of(next_day), NAMESPACE, "Budget", BUDGET, next_day.key, [])]
    await desk.clear([key_of(next_day)], " Ada ", "a new price list")
    assert await desk.list() == []
    await books.limit(LIMIT, window=next_day)
    await books.limit(LIMIT, window=day(2))
    assert set((await marks(books)).values()) == {None}
    await tomorrow(books)
    assert await may_hold(books, next_day) is HoldResult.HELD
    (entry,) = await books.sql("SELECT jsonb_agg(to_jsonb(a)) FROM audit_log a")
    assert (entry["actor"], entry["action"], entry["subject"]) == ("Ada", "overrun.clear", key_of(next_day))
    assert (entry["reason"], entry["before"]) == ("a new price list", {today.key: [], next_day.key: []})


async def test_the_installations_own_account_goes_on_once_somebody_has_looked(books: Books) -> None:
    async def in_force(window: Window) -> str:
        await books.ledger.set_limit(
            namespace="", kind="Installation", name="uncovered", window=window, currency="USD", limit_micros=LIMIT,
            suspended=False, uid="uncovered", generation=1,
        )  # fmt: skip
        return key_of(window, "Installation", "uncovered", "")

    accounts = (CAMPAIGN_KEY, await in_force(day(0)))
    attempt = await books.held(accounts=accounts)
    await books.dialed(attempt)
    await overrun(books, attempt)
    accounts = (CAMPAIGN_KEY, await in_force(day(1)))
    await tomorrow(books)
    assert (await books.hold(1, accounts=accounts)).result is HoldResult.SUSPENDED
    assert [item.account for item in await OverrunDesk(books.engine).list()] == sorted(accounts)
    await OverrunDesk(books.engine).clear(accounts, "Ada", "a new price list")
    assert (await books.hold(1, accounts=accounts)).result is HoldResult.HELD


async def test_an_objects_name_stands_for_all_of_its_windows_and_for_nobody_elses(books: Books) -> None:
    await books.limit(LIMIT, window=day(0))
    mine = (key_of(TOTAL), key_of(day(0)))
    attempt = await books.held(accounts=(CAMPAIGN_KEY, *mine))
    await books.dialed(attempt)
    await overrun(books, attempt)
    desk = OverrunDesk(books.engine)
    assert [item.account for item in await desk.list()] == sorted((CAMPAIGN_KEY, *mine))
    await desk.clear([f"{NAMESPACE}/Budget/{BUDGET}"], "Ada", "a new price list")
    assert [item.account for item in await desk.list()] == [CAMPAIGN_KEY]
    with pytest.raises(CallFleetError, match=f"{NAMESPACE}/Budget/{BUDGET} is no account that is overrun"):
        await desk.clear([f"{NAMESPACE}/Budget/{BUDGET}", CAMPAIGN_KEY], "Ada", "a new price list")
    assert [item.account for item in await desk.list()] == [CAMPAIGN_KEY]


async def test_a_deleted_budget_is_nobodys_to_look_at(books: Books) -> None:
    await overrun(books, await placed(books, TOTAL))
    await books.ledger.close_account(namespace=NAMESPACE, kind="Budget", name=BUDGET)
    assert await OverrunDesk(books.engine).list() == []


@pytest.mark.parametrize(
    ("accounts", "actor", "reason", "sentence"),
    [
        ([key_of(TOTAL), CAMPAIGN_KEY], "Ada", "why", f"{CAMPAIGN_KEY} is no account that is overrun"),
        (["sales/Budget/none/total"], "Ada", "why", "sales/Budget/none/total is no account that is overrun"),
        ([key_of(TOTAL)], " ", "why", "say who decides"),
        ([key_of(TOTAL)], "Ada", " ", "say why"),
    ],
)
async def test_what_cannot_be_cleared_changes_nothing(
    books: Books, accounts: list[str], actor: str, reason: str, sentence: str
) -> None:
    await overrun(books, await placed(books, TOTAL))
    before = await marks(books)
    with pytest.raises(CallFleetError, match=sentence):
        await OverrunDesk(books.engine).clear(accounts, actor, reason)
    assert await marks(books) == before
    assert await books.sql("SELECT count(*) FROM audit_log") == 0


async def test_the_auditors_role_is_enough_and_others_may_not(books: Books, database_url: str) -> None:
    await overrun(books, await placed(books, TOTAL))
    for role, may in (("callfleet_worker", False), ("callfleet_auditor", True)):
        engine = await login(books, database_url, role)
        try:
            desk = OverrunDesk(engine)
            if may:
                assert [item.account for item in await desk.list()] == [key_of(TOTAL)]
                await desk.clear([key_of(TOTAL)], "Ada", "a new price list")
                continue
            with pytest.raises(DBAPIError, match="permission denied"):
                await desk.list()
            with pytest.raises(DBAPIError, match="permission denied"):
                await desk.clear([key_of(TOTAL)], "Ada", "a new price list")
        finally:
            await engine.dispose()
    assert await books.sql("SELECT login FROM audit_log") == engine.url.username


def callfleet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    argv = [sys.executable, "-m", "callfleet", "ledger", "overruns", *arguments]
    return subprocess.run(argv, env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False)


async def test_the_command_lists_and_clears(books: Books, database_url: str) -> None:
    given: dict[str, Any] = {
        "DATABASE_URL": await login_url(books, database_url, "callfleet_auditor"),
        "CALLFLEET_ACTOR": "Ada",
    }
    none = callfleet(**given)
    assert (none.returncode, none.stdout) == (0, "no account is overrun\n"), none.stderr
    await overrun(books, await placed(books, TOTAL))
    heading, row = callfleet(**given).stdout.splitlines()
    assert heading.split() == ["ACCOUNT", "NAMESPACE", "KIND", "NAME", "WINDOW", "METERS"]
    assert row.split() == [key_of(TOTAL), NAMESPACE, "Budget", BUDGET, "total", "-"]
    (listed,) = json.loads(callfleet("--json", **given).stdout)
    assert (listed["account"], listed["meters"]) == (key_of(TOTAL), [])
    done = callfleet("clear", "--reason", "a new price list", key_of(TOTAL), **given)
    assert (done.returncode, "calls are admitted again" in done.stdout) == (0, True), done.stderr
    again = callfleet("clear", "--reason", "a new price list", key_of(TOTAL), **given)
    assert again.returncode == 1
    assert again.stderr.startswith(f"callfleet: nothing was changed: {key_of(TOTAL)} is no account that is overrun")
