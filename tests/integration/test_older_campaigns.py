"""A Campaign that was stored before a rule came is served, may be changed where the rule does not look, and can go."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import pytest
from tests.integration.books import number
from tests.integration.earlier_crds import before_the_rules
from tests.integration.fleet_parts import SPRING, Fleet
from tests.integration.operator_parts import GROUP, campaign_body

ITSELF = {"name": "sure", "type": "YesNo", "ask": ["Are you sure?"], "when": {"question": "sure", "is": ["yes"]}}
AGENT = {"persona": "Robin", "llm": {"model": "llama3.2:3b"}, "opening": "Hello.", "closing": "Goodbye."}
LITTLE_MEMORY = {"worker": {"resources": {"limits": {"memory": "100Mi"}}}}


@pytest.mark.parametrize(
    ("of", "spec", "worse"),
    [
        ("resources", LITTLE_MEMORY, {"worker": {"resources": {"limits": {"memory": "99Mi"}}}}),
        ("spec", {"worker": {"drainSeconds": 300}}, {"call": {"ringTimeoutSeconds": 31}}),
        (
            "spec",
            {"agent": {**AGENT, "questions": [ITSELF]}},
            {"agent": {"questions": [{**ITSELF, "required": False}]}},
        ),
    ],
    ids=["memory", "drain", "questions"],
)
async def test_what_is_older_than_a_rule_is_not_judged_by_it(
    fleet: Fleet, of: str, spec: dict[str, Any], worse: dict[str, Any]
) -> None:
    path = f"{GROUP}/{fleet.namespace}/campaigns"
    body = campaign_body(fleet.namespace, SPRING, contacts={"inline": [{"phone": number(0)}]}, **spec)
    with before_the_rules(fleet.server, {of}, body):
        fleet.parts.apply(body)
    await fleet.settled()
    assert fleet.condition("Ready")[0] == "True"
    fleet.change(suspend=True, worker={"maxWorkers": 2})
    with pytest.raises(HTTPError, match="422"):
        fleet.change(**worse)
    await fleet.look(2)
    assert fleet.condition("Ready")[0] == "True"
    fleet.server.request("DELETE", f"{path}/{SPRING}")
    await fleet.look(2)
    assert fleet.server.request("GET", path)["items"] == []
