"""Calling hours where they are kept: in holds and begin_dial, by PostgreSQL's clock and its own time zones."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from phonenumbers.tzdata import TIMEZONE_DATA
from sqlalchemy import text
from tests.integration.books import (
    CAMPAIGN,
    CONSENT,
    NAMESPACE,
    POD,
    SUBJECTS,
    Books,
    consenting,
    number,
)
from tests.unit.operator.test_hours import CHANGES, ZONES

from callfleet_core.contactlist import read_contacts
from callfleet_core.contacts import ContactIn
from callfleet_core.dialing import DialDecision, Verdict
from callfleet_core.ledger import HoldResult
from callfleet_core.lists import ContactLists
from callfleet_core.phone import zone_name
from callfleet_core.runs import Run
from callfleet_operator.plan.hours import Hours, Window, is_open

EVERY_DAY = frozenset(range(1, 8))
ALWAYS = Hours((Window(EVERY_DAY, 0, 1440),))
# Numbers of fiction that tell a place.
NEW_YORK, LONDON, TOLL_FREE = "+12125550101", "+442079460001", "+18005550101"


async def keep(books: Books, hours: Hours | None, generation: int = 2, campaign: str = CAMPAIGN) -> None:
    """Puts a schedule in force."""
    await books.contacts.mirror_campaign(
        namespace=NAMESPACE, name=campaign, uid=f"{campaign.replace(CAMPAIGN, 'campaign')}-1", generation=generation,
        suspended=False, closed=False, hours=None if hours is None else hours.document(),
    )  # fmt: skip


async def begun(books: Books, attempt: UUID) -> DialDecision:
    return await books.dialing.begin_dial(attempt, POD, uuid4())


def closed_now() -> Hours:
    """A schedule of the day after tomorrow, by UTC."""
    day = (datetime.now(UTC) + timedelta(days=2)).isoweekday()
    return Hours((Window(frozenset({day}), 0, 1440),), "Etc/UTC")


def some_case(generator: random.Random) -> tuple[Hours, tuple[str, ...], datetime]:
    def window() -> Window:
        opens = generator.randrange(1440)
        days = frozenset(generator.sample(range(1, 8), generator.randint(1, 7)))
        return Window(days, opens, generator.randint(opens + 1, 1440))

    now = generator.choice(CHANGES) + timedelta(seconds=generator.randint(-100_000, 100_000))
    windows = tuple(window() for _ in range(generator.randint(0, 4)))
    not_after = generator.choice([None, None, now, now + timedelta(seconds=1), now - timedelta(seconds=1)])
    hours = Hours(windows, generator.choice([None, generator.choice(ZONES)]), not_after)
    return hours, tuple(generator.sample(ZONES, generator.randint(0, 3))), now


async def opened(books: Books, cases: list[tuple[Hours, tuple[str, ...], datetime]]) -> list[bool]:
    """What PostgreSQL says of each."""
    asked = [{"h": hours.document(), "z": zones, "t": now.isoformat()} for hours, zones, now in cases]
    async with books.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT hours_open(h, z, t) FROM ROWS FROM (jsonb_to_recordset(CAST(:asked AS jsonb))"
                " AS (h jsonb, z text[], t timestamptz)) WITH ORDINALITY AS a (h, z, t, place) ORDER BY place"
            ),
            {"asked": json.dumps(asked)},
        )
        return list(rows.scalars())


async def test_postgres_and_the_planner_judge_every_moment_alike(books: Books) -> None:
    generator = random.Random(27)  # noqa: S311  # repeatable cases, no secrets
    cases = [some_case(generator) for _ in range(4_000)]
    judged = await opened(books, cases)
    wrong = [case for case, said in zip(cases, judged, strict=True) if said != is_open(*case)]
    assert wrong == []
    assert 800 < sum(judged) < 3_200  # both happen


async def test_postgres_knows_every_zone_that_a_number_may_tell(books: Books) -> None:
    zones = sorted({zone_name(zone) for told in TIMEZONE_DATA.values() for zone in told})
    assert len(zones) > 200
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    judged = await opened(books, [(ALWAYS, (zone,), noon) for zone in zones])
    assert [zone for zone, said in zip(zones, judged, strict=True) if said != is_open(ALWAYS, (zone,), noon)] == []
    assert all(judged)


async def test_a_zone_that_postgres_does_not_know_is_never_open(books: Books) -> None:
    assert await opened(books, [(ALWAYS, ("No/Where",), CHANGES[0])]) == [False]


async def test_nobody_is_held_for_outside_of_the_hours(books: Books) -> None:
    await keep(books, closed_now())
    assert (await books.hold(0)).result is HoldResult.OUTSIDE_CALLING_HOURS
    assert await books.budget() == (0, 0)
    await keep(books, Hours(ALWAYS.windows, "Etc/UTC"), 3)
    assert (await books.hold(0)).result is HoldResult.HELD


async def test_hours_that_change_after_the_hold_hold_for_the_dial(books: Books) -> None:
    first, second, third = [await books.held(index) for index in range(3)]
    await keep(books, closed_now())
    decision = await begun(books, first)
    assert (decision.verdict, decision.reason) == (Verdict.REFUSED, "OutsideCallingHours")
    assert decision.order is None
    await keep(books, Hours(ALWAYS.windows, "Etc/UTC"), 3)
    assert (await begun(books, second)).verdict is Verdict.GO
    await keep(books, None, 4)
    assert (await begun(books, third)).verdict is Verdict.GO
    # What was refused holds nothing, and may be tried again.
    assert await books.unbalanced() == 0
    assert (await books.hold(0)).result is HoldResult.HELD


async def test_the_same_worker_gets_its_answer_again_after_the_end(books: Books) -> None:
    attempt, nonce = await books.held(0), uuid4()
    assert (await books.dialing.begin_dial(attempt, POD, nonce)).verdict is Verdict.GO
    await keep(books, closed_now())
    assert (await books.dialing.begin_dial(attempt, POD, nonce)).verdict is Verdict.GO


async def test_the_hour_is_that_of_the_dial_whatever_it_had_to_wait_for(books: Books) -> None:
    attempt = await books.held(0)
    end = await books.sql("SELECT clock_timestamp() + interval '1 second'")
    await keep(books, Hours(not_after=end))
    async with books.engine.begin() as connection:
        await connection.execute(text("SELECT 1 FROM carrier_accounts FOR UPDATE"))
        dial = asyncio.create_task(begun(books, attempt))
        await _waits_for_a_lock(books)
        assert await books.sql("SELECT clock_timestamp()") < end
        await connection.execute(text("SELECT pg_sleep_until(:end)"), {"end": end})
    assert (await dial).reason == "OutsideCallingHours"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("INSERT INTO do_not_call (number_hash, namespace, source) SELECT number_hash, '', 'manual' FROM contacts",
         "DoNotCall"),
        ("UPDATE accounts SET window_end = clock_timestamp(), window_start = '2026-01-01'", "WindowClosed"),
        ("UPDATE dial_attempts SET expires_at = clock_timestamp() WHERE false", None),
    ],
    ids=["listed", "midnight", "nothing"],
)  # fmt: skip
async def test_what_happens_while_a_dial_waits_for_its_carriers_pace_counts(
    books: Books, change: str, reason: str | None
) -> None:
    attempt = await books.held()
    async with books.engine.begin() as other:
        await other.execute(text("SELECT 1 FROM carrier_accounts FOR UPDATE"))
        dial = asyncio.create_task(books.dialing.begin_dial(attempt, POD, uuid4()))
        await _waits_for_a_lock(books)
        async with books.engine.begin() as third:
            await third.execute(text(change))
    decision = await dial
    assert (decision.verdict, decision.reason) == (("go", None) if reason is None else ("refused", reason))


async def test_new_hours_wait_for_the_dials_that_go_by_the_old_ones(books: Books) -> None:
    await keep(books, Hours(ALWAYS.windows, "Etc/UTC"))
    attempt = await books.held(0)
    async with books.engine.begin() as connection:
        said = await connection.scalar(
            text("SELECT begin_dial(:attempt, :pod, :nonce)"), {"attempt": attempt, "pod": POD, "nonce": uuid4()}
        )
        changed = asyncio.create_task(keep(books, closed_now(), 3))
        await _waits_for_a_lock(books)
    assert said["verdict"] == "go"
    await changed


async def _waits_for_a_lock(books: Books) -> None:
    """Until a statement waits for somebody's lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(1_000):
        if await books.sql(asked):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def zones(books: Books, person: UUID, run: Run) -> tuple[str, ...]:
    return (await books.contacts.callee_zones([person], run))[person]


async def test_a_number_tells_its_zones_and_a_stated_one_goes_before_them(books: Books) -> None:
    people = [
        ContactIn(NEW_YORK, None, CONSENT),
        ContactIn(LONDON, None, CONSENT, "Asia/Kathmandu"),
        ContactIn(TOLL_FREE, None, CONSENT),
        consenting(50),
    ]
    ids = await books.listed("other", "1", *people)
    run = Run(NAMESPACE, "other", "1")
    told = [await zones(books, person, run) for person in ids]
    assert told[:2] == [("America/New_York",), ("Asia/Kathmandu",)]
    assert {"America/New_York", "Pacific/Honolulu"} < set(told[2])
    assert told[3] == ()
    # What another run states of a person is that run's.
    assert await zones(books, ids[1], Run(NAMESPACE, CAMPAIGN, "1")) == ("Europe/London",)
    await books.listed("other", "1", *[ContactIn(each.phone, None, CONSENT) for each in people])
    assert await zones(books, ids[1], run) == ("Europe/London",)


@pytest.mark.parametrize(
    ("person", "result"),
    [
        (ContactIn(NEW_YORK, None, CONSENT), HoldResult.HELD),
        (ContactIn(LONDON, None, CONSENT), HoldResult.OUTSIDE_CALLING_HOURS),
        (ContactIn(LONDON, None, CONSENT, "America/New_York"), HoldResult.HELD),
        (ContactIn(TOLL_FREE, None, CONSENT), HoldResult.OUTSIDE_CALLING_HOURS),
        (ContactIn(number(50), None, CONSENT), HoldResult.OUTSIDE_CALLING_HOURS),
        (ContactIn(number(50), None, CONSENT, "America/New_York"), HoldResult.HELD),
    ],
)
async def test_people_are_called_by_their_own_clock(books: Books, person: ContactIn, result: HoldResult) -> None:
    (callee,) = await books.listed("other", "1", person)
    await keep(books, _this_minute_in("America/New_York"), campaign="other")
    answer = await books.hold(contact_id=callee, campaign="other")
    assert answer.result is result
    if answer.result is HoldResult.HELD:
        assert (await begun(books, answer.attempt_id)).verdict is Verdict.GO


def _this_minute_in(zone: str) -> Hours:
    """Half an hour around now, by the clock of a zone: no other zone of these tests shows the same."""
    windows = []
    for minutes in (-15, 0, 15):
        local = datetime.now(ZoneInfo(zone)) + timedelta(minutes=minutes)
        start = local.hour * 60 + local.minute // 15 * 15
        windows.append(Window(frozenset({local.isoweekday()}), start, start + 15))
    return Hours(tuple(windows))


async def test_people_who_were_stored_before_get_their_zones_when_they_are_listed_again(books: Books) -> None:
    person = ContactIn(NEW_YORK, None, CONSENT)
    (callee,) = await books.listed("other", "1", person)
    run = Run(NAMESPACE, "other", "1")
    await books.sql("UPDATE contacts SET time_zones = NULL")
    assert await zones(books, callee, run) == ()
    await books.listed("other", "1", person)
    assert await zones(books, callee, run) == ("America/New_York",)
    await books.sql("UPDATE contacts SET time_zones = NULL")
    await _imported(books, f"phone\n{NEW_YORK}\n")
    assert await zones(books, callee, run) == ("America/New_York",)


async def test_a_list_states_zones_and_a_new_import_corrects_them(books: Books) -> None:
    run = Run(NAMESPACE, CAMPAIGN, "9")
    found: list[Any] = []
    for zone in ("Asia/Kathmandu", "Europe/London", ""):
        await _imported(books, f"phone,time_zone\n{NEW_YORK},{zone}\n")
        await books.runs.take_list(run, "people")
        (contact,) = await books.runs.due(run, 5)
        found.append(await zones(books, contact.contact_id, run))
    assert found == [("Asia/Kathmandu",), ("Europe/London",), ("America/New_York",)]


async def _imported(books: Books, csv: str) -> None:
    await ContactLists(books.engine).import_rows(NAMESPACE, "people", read_contacts(csv.splitlines()), SUBJECTS)
