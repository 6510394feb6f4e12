"""Calling hours by the real operator on a real API server and PostgreSQL: who waits for them, what is not kept."""

from __future__ import annotations

import json
import urllib.error
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from tests.integration.apiserver import ApiServer
from tests.integration.books import CONSENT, SUBJECTS, number
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import GROUP, campaign_body, session_body, until
from tests.integration.test_admission_queue import explained

from callfleet_core.api.schedule import Day
from callfleet_core.dialing import DialStore
from callfleet_operator.objects import Key, parse_time
from callfleet_operator.plan.pool import WARM_UP
from callfleet_operator.reconcile import budget

DAYS = list(Day)
ALWAYS = {"days": [*DAYS], "from": "00:00", "to": "24:00"}
COOL_DOWN = timedelta(seconds=121)


def next_hour() -> datetime:
    """A full hour that is at least an hour away."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)


def one_hour(start: datetime, zone: str = "UTC") -> dict[str, Any]:
    """A window of the hour that begins then, by the clock of a zone of whole hours."""
    local = start.astimezone(ZoneInfo(zone))
    return {"days": [DAYS[local.weekday()]], "from": f"{local:%H}:00", "to": f"{local.hour + 1:02}:00"}


def people(*zones: str | None) -> dict[str, Any]:
    """A contact for each zone; None states none, and the fictional numbers tell none."""
    consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
    inline = [
        {"phone": number(place), "consent": consent} | ({} if zone is None else {"timeZone": zone})
        for place, zone in enumerate(zones)
    ]
    return {"inline": inline}


def apply(fleet: Fleet, *zones: str | None, **spec: Any) -> None:
    fleet.parts.apply(campaign_body(fleet.namespace, SPRING, contacts=people(*zones), **spec))


async def total_only(fleet: Fleet, name: str) -> None:
    """A budget whose account is the same on both sides of midnight, which the operator's clock may have passed."""
    limits = {"currency": "USD", "timeZone": "UTC", "limits": {"total": "10"}}
    meta = {"name": name, "namespace": fleet.namespace}
    fleet.parts.apply({"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": meta, "spec": limits})
    for _ in range(2):
        await fleet.parts.see()
        await budget.reconcile(fleet.parts.context, Key("Budget", fleet.namespace, name))


def statuses(fleet: Fleet) -> list[dict[str, Any]]:
    """The sessions' statuses, in their contacts' order."""
    found = sorted(fleet.parts.context.store.sessions(fleet.namespace), key=lambda item: item.position)
    return [item.status for item in found]


def _first_of(found: list[dict[str, Any]]) -> str:
    return min(str(item["retryAt"]) for item in found if item.get("retryAt"))


async def test_people_wait_for_their_own_hours_and_say_when_they_come(fleet: Fleet, server: ApiServer) -> None:
    start = next_hour()
    schedule = {"windows": [one_hour(start, "America/Denver")]}
    apply(fleet, "America/Denver", None, "Asia/Kathmandu", schedule=schedule, worker={"maxWorkers": 1})
    await fleet.settled()
    found = statuses(fleet)
    assert [item["reason"] for item in found] == ["OutsideCallingHours"] * 3
    assert parse_time(found[0]["retryAt"]) == start
    assert found[1].get("retryAt") is None
    assert "no time zone" in found[1]["conditions"][0]["message"]
    kathmandu = parse_time(found[2]["retryAt"]).astimezone(ZoneInfo("Asia/Kathmandu"))
    assert f"{kathmandu:%H:%M}" == schedule["windows"][0]["from"]
    assert fleet.status()["summary"] == f"OutsideCallingHours: 3 wait, the first until {_first_of(found)}"
    # Nothing is held, nothing is started for them.
    assert fleet.status()["money"]["held"] == "0.00"
    assert fleet.pods() == []
    first = fleet.parts.context.store.sessions(fleet.namespace)[0].meta.name
    told = await explained(server, first, "-n", fleet.namespace)
    assert (told["reason"], told["line"]) == ("OutsideCallingHours", None)
    queue = await explained(server, f"campaign/{SPRING}", "-n", fleet.namespace)
    assert [(item["reason"], item["count"]) for item in queue["waiting"]] == [("OutsideCallingHours", 3)]
    assert parse_time(queue["waiting"][0]["retryAt"]) == min(start, parse_time(found[2]["retryAt"]))


async def test_a_changed_schedule_holds_from_the_next_look_and_for_whoever_was_admitted(fleet: Fleet) -> None:
    closed = {"zone": "Campaign", "windows": [one_hour(next_hour())]}
    apply(fleet, None, None, schedule=closed, worker={"slotsPerWorker": 2, "maxWorkers": 1})
    await fleet.settled()
    fleet.change(schedule={"zone": "Campaign", "windows": [ALWAYS]})
    await fleet.look(2)
    fleet.run_pods()
    await fleet.look()
    first, second = fleet.bound()
    fleet.change(schedule=closed)
    await fleet.look()
    async with fleet.parts.by_itself():
        await until(lambda: len(fleet.parts.context.queue) == 0)  # what the change itself asked for
        dialing = DialStore(fleet.parts.context.engine, SUBJECTS.ring(fleet.namespace))
        decision = await dialing.begin_dial(UUID(first["attempt"]["id"]), first["podUID"], uuid4())
        assert (decision.verdict, decision.reason) == ("refused", "OutsideCallingHours")
        await dialing.begin_dial(UUID(second["attempt"]["id"]), second["podUID"], uuid4())
        # No object has changed, and a worker tells nobody: the sessions come back by themselves.
        await until(lambda: {item["state"] for item in statuses(fleet)} == {"Pending"})
    await fleet.look()
    assert [(item["state"], item["reason"]) for item in statuses(fleet)] == [("Pending", "OutsideCallingHours")] * 2
    assert fleet.status()["money"]["held"] == "0.00"
    fleet.change(schedule=None)
    await fleet.look(2)
    assert [item["attempt"]["number"] for item in fleet.bound()] == [1, 1]  # what was refused counts as no try


async def test_what_the_operators_clock_allows_too_early_postgres_refuses(fleet: Fleet) -> None:
    start = next_hour()
    schedule = {"zone": "Campaign", "windows": [one_hour(start)]}
    await total_only(fleet, "season")
    apply(fleet, None, schedule=schedule, worker={"minWorkers": 1}, budgetRefs=[{"name": "season"}])
    await fleet.settled()
    fleet.ahead = start - datetime.now(UTC) + timedelta(seconds=1)
    await fleet.look()
    fleet.run_pods()
    await fleet.look(2)
    assert [item["reason"] for item in statuses(fleet)] == ["OutsideCallingHours"]
    assert await fleet.parts.context.ledger.open_attempts() == []


async def test_the_end_of_a_campaign_is_told_and_can_be_put_off(fleet: Fleet) -> None:
    over = {"notAfter": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    apply(fleet, None, schedule=over, worker={"minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    (status,) = statuses(fleet)
    assert (status["reason"], status.get("retryAt")) == ("OutsideCallingHours", None)
    assert "notAfter" in status["conditions"][0]["message"]
    assert fleet.pods() == []
    far = {"days": ["Mon"], "from": "00:00", "to": "00:01"}
    fleet.change(schedule={"windows": [far], "notAfter": None})
    await fleet.look(2)
    assert "no time zone" in statuses(fleet)[0]["conditions"][0]["message"]  # the same reason, but not the same cause
    fleet.change(schedule={"windows": None, "notAfter": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    await fleet.look(2)
    fleet.run_pods()
    await fleet.look()
    assert len(fleet.bound()) == 1


@pytest.mark.parametrize("zone", ["Campaign", "Callee"])
async def test_a_pool_goes_to_zero_outside_of_the_hours_and_is_warm_when_they_begin(fleet: Fleet, zone: str) -> None:
    start = next_hour()
    worker = {"minWorkers": 2, "maxWorkers": 4, "slotsPerWorker": 1}
    schedule = {"zone": zone, "windows": [one_hour(start)]}
    await total_only(fleet, "season")
    apply(fleet, *["Etc/UTC"] * 3, schedule=schedule, worker=worker, budgetRefs=[{"name": "season"}])
    for _ in range(2):
        await fleet.parts.reconcile(fleet.namespace, SPRING)
    assert len(fleet.sessions()) == 3
    await fleet.look_at_pools()
    assert fleet.pods() == []  # before any plan has judged them
    await fleet.settled()
    assert fleet.pods() == []
    fleet.ahead = start - WARM_UP - timedelta(seconds=30) - datetime.now(UTC)
    await fleet.look(2)
    assert fleet.pods() == []
    fleet.ahead += timedelta(seconds=31)
    await fleet.look(2)
    assert len(fleet.pods()) == 3  # one for each of those who are called first
    fleet.run_pods()
    fleet.ahead += timedelta(hours=1) + WARM_UP
    await fleet.look(2)
    assert len(fleet.pods()) == 3  # the cool-down has only begun
    fleet.ahead += COOL_DOWN
    await fleet.look()
    assert fleet.pods() == []


async def test_the_warm_minimum_stays_within_the_hours(fleet: Fleet) -> None:
    consentless = people("Etc/UTC")
    del consentless["inline"][0]["consent"]
    schedule = {"windows": [ALWAYS]}
    body = campaign_body(fleet.namespace, SPRING, contacts=consentless, schedule=schedule, worker={"minWorkers": 1})
    fleet.parts.apply(body)
    await fleet.settled()
    fleet.ahead += COOL_DOWN
    await fleet.look(2)
    assert len(fleet.pods()) == 1


WINDOW = {"days": ["Mon"], "from": "09:00", "to": "18:00"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"schedule": {}}, "schedule must have windows or notAfter"),
        ({"schedule": {"windows": []}}, "at least 1 items"),
        ({"schedule": {"windows": [WINDOW] * 29}}, "at most 28 items"),
        ({"schedule": {"windows": [WINDOW | {"days": []}]}}, "at least 1 items"),
        ({"schedule": {"windows": [WINDOW | {"days": ["Mon", "Mon"]}]}}, "Duplicate value"),
        ({"schedule": {"windows": [WINDOW | {"days": ["Monday"]}]}}, "Unsupported value"),
        ({"schedule": {"windows": [WINDOW | {"from": "9:00"}]}}, "spec.schedule.windows[0].from"),
        ({"schedule": {"windows": [WINDOW | {"from": "24:00"}]}}, "spec.schedule.windows[0].from"),
        ({"schedule": {"windows": [WINDOW | {"to": "24:01"}]}}, "spec.schedule.windows[0].to"),
        ({"schedule": {"windows": [WINDOW | {"from": "18:00", "to": "09:00"}]}}, "hours over midnight as two windows"),
        ({"schedule": {"windows": [WINDOW | {"to": "09:00"}]}}, "from must be before to"),
        ({"schedule": {"zone": "Caller", "windows": [WINDOW]}}, "Unsupported value"),
        ({"schedule": {"notAfter": "tomorrow"}}, "spec.schedule.notAfter"),
        ({"schedule": {"notAfter": "2026-12-31T00:00:00+24:00"}}, "spec.schedule.notAfter"),
        ({"schedule": {"zone": "Campaign", "windows": [WINDOW]}, "timeZone": "CET"}, "that is UTC or Area/City"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_refused_with_what_is_right(server: ApiServer, spec: dict[str, Any], words: str) -> None:
    body = campaign_body("default", f"spring-{uuid4().hex[:8]}", contacts=people(None), **spec)
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request("POST", f"{GROUP}/default/campaigns", body)
    assert refused.value.code == 422
    assert words in json.loads(refused.value.read())["message"]


@pytest.mark.parametrize(
    "spec",
    [
        {"schedule": None},
        {"schedule": {"windows": None, "notAfter": "2026-12-31T00:00:00Z"}},
        {"schedule": {"windows": [WINDOW], "notAfter": None}},
        {"schedule": {"zone": "Campaign", "windows": [WINDOW | {"from": "00:00", "to": "24:00"}] * 28}},
    ],
)
def test_a_right_schedule_is_taken(server: ApiServer, spec: dict[str, Any]) -> None:
    body = campaign_body("default", f"spring-{uuid4().hex[:8]}", contacts=people(None), **spec)
    made = server.request("POST", f"{GROUP}/default/campaigns", body)
    path = f"{GROUP}/default/campaigns/{body['metadata']['name']}"
    server.request("PATCH", path, {"spec": {"weight": 20}}, MERGE)
    assert made["spec"].get("schedule", {}) is None or made["spec"]["schedule"]["zone"] in {"Callee", "Campaign"}


def by_hand(fleet: Fleet, name: str, like: dict[str, Any], not_after: datetime) -> None:
    """Somebody's own CallSession for a campaign's person, which comes before the campaign's."""
    copied = {key: like["spec"][key] for key in ("campaign", "runID", "contactID", "currency")}
    body = session_body(name, **copied, priority=100, notAfter=not_after.isoformat())
    fleet.server.request("POST", f"{GROUP}/{fleet.namespace}/callsessions", body)


async def test_a_sessions_own_last_moment_bounds_its_grant_and_ends_it(fleet: Fleet) -> None:
    fleet.apply(2, worker={"slotsPerWorker": 2, "minWorkers": 1, "maxWorkers": 1})
    await fleet.settled()
    first, second = fleet.sessions()
    last = datetime.now(UTC) + timedelta(seconds=60)
    by_hand(fleet, "in-time", first, last)
    by_hand(fleet, "too-late", second, datetime.now(UTC) + timedelta(seconds=2))
    await fleet.parts.tend_sessions(fleet.namespace)  # they get the operator's finalizer
    fleet.run_pods()
    await fleet.look(2)  # in the first, the campaign's own session for the same person may be refused the second slot
    attempts = {item.session_name: item for item in await fleet.parts.context.ledger.open_attempts()}
    assert set(attempts) == {"in-time", second["metadata"]["name"]}  # two seconds are too short to begin in
    expires = "SELECT expires_at FROM dial_attempts WHERE session_name = :name"
    async with fleet.parts.context.engine.connect() as connection:
        found = (await connection.execute(text(expires), {"name": "in-time"})).scalar_one()
    assert last - timedelta(seconds=10) < found <= last + timedelta(seconds=1)
    fleet.ahead = timedelta(seconds=3)
    await fleet.parts.tend_sessions(fleet.namespace)
    await fleet.parts.see()
    session = fleet.parts.context.store.session(fleet.namespace, "too-late")
    assert session is not None
    assert session.state == "Canceled"
    assert "notAfter" in session.status["conditions"][-1]["message"]
