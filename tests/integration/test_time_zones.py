"""Time zones are refused where the API server's own database has them not, in a sentence, when they are applied."""

from __future__ import annotations

import json
import zoneinfo
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

import pytest
from tests.integration.apiserver import ApiServer
from tests.integration.books import number
from tests.integration.operator_parts import GROUP, campaign_body

SENTENCE = "must be an IANA time zone, such as Europe/Berlin"
# A file's own name, and what Python has beside the database's names.
OF_PYTHON_ONLY = {"localtime", "Factory"}


def refusal(server: ApiServer, kind: str, body: dict[str, Any]) -> str:
    """What the API server says against an object that would be made; empty where it takes it."""
    try:
        server.request("POST", f"{GROUP}/default/{kind}?dryRun=All", body)
    except HTTPError as error:
        return f"{error.code}: {json.loads(error.read())['message']}"
    return ""


def campaign(*zones: str | None, **spec: Any) -> dict[str, Any]:
    inline = [{"phone": number(index), "timeZone": zone} for index, zone in enumerate(zones)]
    return campaign_body("default", f"spring-{uuid4().hex[:8]}", contacts={"inline": inline}, **spec)


def budget(zone: str) -> dict[str, Any]:
    return {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
        "metadata": {"name": f"money-{uuid4().hex[:8]}", "namespace": "default"},
        "spec": {"timeZone": zone, "limits": {"total": "5.00"}},
    }  # fmt: skip


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Local", "+02:00", "europe/berlin", "../etc/passwd", ""])
def test_a_zone_that_does_not_exist_is_refused(server: ApiServer, zone: str) -> None:
    for said in (
        refusal(server, "campaigns", campaign(None, timeZone=zone)),
        refusal(server, "campaigns", campaign("Europe/Berlin", zone)),
        refusal(server, "budgets", budget(zone)),
    ):
        assert said.startswith("422")
        assert "timeZone" in said
        assert SENTENCE in said or "should match" in said


def test_every_zone_that_the_operator_knows_is_taken(server: ApiServer) -> None:
    names = sorted(zoneinfo.available_timezones() - OF_PYTHON_ONLY)
    assert len(names) > 400
    for first in range(0, len(names), 100):
        assert refusal(server, "campaigns", campaign(*names[first : first + 100])) == ""


def test_a_contact_without_a_zone_is_taken(server: ApiServer) -> None:
    assert refusal(server, "campaigns", campaign(None, timeZone="UTC")) == ""
