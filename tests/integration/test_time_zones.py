"""A time zone that nobody has is refused by the real API server; one that was stored before that is told."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
from tests.integration.apiserver import ApiServer
from tests.integration.books import number
from tests.integration.earlier_crds import before_the_rules, refusal
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import GROUP, campaign_body

from callfleet_core.windows import time_zone
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import budget

MARS = "Mars/Olympus"
NAMED, OF_A_PERSON = "such as Europe/Berlin, or UTC", "Area/City, such as America/New_York"
KNOWN = ("Europe/Berlin", "America/Argentina/Buenos_Aires", "America/Port-au-Prince", "Etc/GMT+3", "US/Eastern")
BARE = ("UTC", "CET", "EST5EDT", "GB-Eire", "W-SU")
# Each is taken by CEL's own getHours, or by Python, and not by the other, or means what depends on the machine.
UNKNOWN = (
    MARS, "europe/berlin", "Europe", "Europe/", "Europe//Berlin", "", "Local", "localtime", "Factory", "posixrules",
    "posix/Europe/Berlin", "right/Europe/Berlin", "+02:00", "02:00", "-2:30", "UTC+2", "99:99", "../UTC", "/UTC", "Z",
)  # fmt: skip


def campaign(zone: str | None = None, person: str | None = None, name: str = SPRING) -> dict[str, Any]:
    contact = {"phone": number(0)} | ({} if person is None else {"timeZone": person})
    spec = {} if zone is None else {"timeZone": zone}
    return campaign_body("default", name, contacts={"inline": [contact]}, suspend=True, **spec)


def money(zone: str, name: str = "us") -> dict[str, Any]:
    return {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": {"name": name},
        "spec": {"timeZone": zone, "limits": {"total": "5.00"}},
    }  # fmt: skip


@pytest.mark.parametrize("zone", KNOWN + BARE)
def test_a_zone_that_everybody_knows_is_taken(server: ApiServer, zone: str) -> None:
    assert (refusal(server, campaign(zone)), refusal(server, money(zone))) == ("", "")
    time_zone(zone)


@pytest.mark.parametrize("zone", UNKNOWN)
def test_a_zone_that_nobody_has_is_refused_wherever_it_stands(server: ApiServer, zone: str) -> None:
    for body, field, words in (
        (campaign(zone), "spec.timeZone", NAMED),
        (money(zone), "spec.timeZone", NAMED),
        (campaign(person=zone), "spec.contacts.inline[0].timeZone", OF_A_PERSON),
    ):
        said = refusal(server, body)
        assert field in said
        assert words in said


def test_a_refusal_names_what_was_written(server: ApiServer) -> None:
    assert f"unknown time zone {MARS}" in refusal(server, campaign(MARS))


def test_a_persons_zone_is_an_area_and_a_city(server: ApiServer) -> None:
    assert [refusal(server, campaign(person=zone)) for zone in KNOWN] == [""] * len(KNOWN)
    assert all(OF_A_PERSON in refusal(server, campaign(person=zone)) for zone in BARE)


def test_a_hundred_people_may_each_have_a_zone(server: ApiServer) -> None:
    body = campaign()
    body["spec"]["contacts"]["inline"] = [
        {"phone": number(place), "timeZone": KNOWN[place % len(KNOWN)]} for place in range(100)
    ]
    assert refusal(server, body) == ""


def before_the_rule(server: ApiServer) -> AbstractContextManager[None]:
    """Time zones are not looked at meanwhile."""
    return before_the_rules(server, {"timeZone"}, campaign(MARS), campaign(person=MARS), money(MARS))


async def test_a_campaign_that_is_older_than_the_rule_stalls_says_so_and_can_be_deleted(fleet: Fleet) -> None:
    path = f"{GROUP}/{fleet.namespace}/campaigns"
    with before_the_rule(fleet.server):
        fleet.apply(1, timeZone=MARS)
    await fleet.settled()
    assert fleet.condition("Stalled")[:2] == ("True", "InvalidTimeZone")
    assert MARS in fleet.condition("Stalled")[2]
    assert fleet.sessions() == []
    fleet.change(suspend=True)  # what is not touched is not judged anew
    fleet.server.request("DELETE", f"{path}/{SPRING}")
    await fleet.look(2)
    assert fleet.server.request("GET", path)["items"] == []


async def test_a_person_in_an_unknown_zone_who_is_older_than_the_rule_loads_nobody(fleet: Fleet) -> None:
    with before_the_rule(fleet.server):
        spec = campaign(person=MARS)["spec"]
        fleet.parts.apply(campaign_body(fleet.namespace, SPRING, **{**spec, "suspend": False}))
    await fleet.settled()
    status, _, message = fleet.condition("ContactsLoaded")
    assert (status, fleet.sessions()) == ("False", [])
    assert message.startswith("contact 1: there is no such time zone")


async def test_a_budget_that_is_older_than_the_rule_stalls_and_may_be_changed(fleet: Fleet) -> None:
    path = f"{GROUP}/{fleet.namespace}/budgets"
    with before_the_rule(fleet.server):
        fleet.server.request("POST", path, money(MARS))
    fleet.server.request("PATCH", f"{path}/us", {"spec": {"limits": {"total": "4.00"}}}, MERGE)
    await fleet.parts.see()
    await budget.reconcile(fleet.parts.context, Key("Budget", fleet.namespace, "us"))
    (found,) = fleet.server.request("GET", path)["items"]
    conditions = {item["type"]: item for item in found["status"]["conditions"]}
    assert (conditions["Ready"]["status"], conditions["Stalled"]["status"]) == ("False", "True")
    assert MARS in conditions["Stalled"]["message"]
