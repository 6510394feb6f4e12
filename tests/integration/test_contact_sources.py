"""The sources of a Campaign's contacts, as the API server takes or refuses them."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest
import yaml
from tests.integration.apiserver import ApiServer
from tests.integration.operator_parts import GROUP, campaign_body

from callfleet.checkout import checkout

LIST = {"listRef": {"name": "spring-2026"}}
PERSON = {"inline": [{"phone": "+15550100150"}]}
SOURCES = "exactly one source: inline, configMapRef, secretRef or listRef"
CAMPAIGNS = f"{GROUP}/default/campaigns"


def refusal(error: urllib.error.HTTPError) -> str:
    return str(json.loads(error.read())["message"])


def test_a_list_is_a_source(server: ApiServer) -> None:
    made = server.request("POST", CAMPAIGNS, campaign_body("default", "listed", contacts=LIST))
    assert made["spec"]["contacts"] == LIST


def test_the_sample_is_accepted(server: ApiServer) -> None:
    sample = yaml.safe_load((checkout() / "docs" / "samples" / "list-campaign.yaml").read_text())
    assert server.request("POST", CAMPAIGNS, sample)["spec"]["contacts"] == LIST


@pytest.mark.parametrize(
    ("contacts", "message"),
    [
        ({**LIST, **PERSON}, SOURCES),
        ({**LIST, "secretRef": {"name": "people"}}, SOURCES),
        ({**LIST, "configMapRef": {"name": "people"}}, SOURCES),
        ({}, SOURCES),
        ({"listRef": {"name": "Spring"}}, "contacts.listRef.name"),
        ({"listRef": {}}, "contacts.listRef.name: Required value"),
    ],
)
def test_other_sources_are_refused_with_what_to_change(
    server: ApiServer, contacts: dict[str, Any], message: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request("POST", CAMPAIGNS, campaign_body("default", "bad", contacts=contacts))
    assert message in refusal(refused.value)


def test_another_list_needs_another_run(server: ApiServer) -> None:
    server.request("POST", CAMPAIGNS, campaign_body("default", "fixed", contacts=LIST))
    other: dict[str, Any] = {"contacts": {"listRef": {"name": "autumn-2026"}}}
    merge = "application/merge-patch+json"
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request("PATCH", f"{CAMPAIGNS}/fixed", {"spec": other}, merge)
    assert "give a new runID" in refusal(refused.value)
    server.request("PATCH", f"{CAMPAIGNS}/fixed", {"spec": {**other, "runID": "2"}}, merge)
