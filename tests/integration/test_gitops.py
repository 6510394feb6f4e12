"""What GitOps tools compare: what the API server adds to an applied object is in no list's items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.integration.apiserver import ApiServer
from tests.integration.books import number
from tests.integration.earlier_crds import refusal
from tests.integration.operator_parts import GROUP, campaign_body

from callfleet.checkout import checkout

SAMPLES = sorted((checkout() / "docs" / "samples").glob("*-campaign.yaml"))
# Each leaves out whatever an item may leave out.
QUESTIONS = [
    {"name": "interested", "type": "YesNo", "ask": ["Are you interested?"], "qualify": {"is": ["yes"]}},
    {"name": "kind", "type": "Choice", "ask": ["Which?"], "choices": ["red", "green"]},
]
TOLERATIONS = [{"key": "gpu"}, {"effect": "NoExecute"}, {"key": "team", "operator": "Equal", "value": "voice"}]


def differs(wanted: Any, found: Any, path: str) -> Iterator[str]:
    """Where a JSON merge patch of what is found, with what is wanted, would change it: lists are whole."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from differs(value, found.get(key), f"{path}.{key}")
    elif wanted != found:
        yield path


def difference(server: ApiServer, namespace: str, body: dict[str, Any]) -> list[str]:
    """Applies an object; answers in what the stored one is unlike it."""
    path = f"{GROUP}/{namespace}/{body['kind'].lower()}s"
    body["metadata"]["namespace"] = namespace
    server.request("POST", path, body)
    stored = server.request("GET", f"{path}/{body['metadata']['name']}")
    return list(differs(body["spec"], stored["spec"], "spec"))


def test_what_items_leave_out_is_not_added(server: ApiServer, namespace: str) -> None:
    body = campaign_body(
        namespace, "spring", contacts={"inline": [{"phone": number(1)}]}, worker={"tolerations": TOLERATIONS}
    )
    body["spec"]["agent"]["questions"] = QUESTIONS
    assert difference(server, namespace, body) == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_in_sync(server: ApiServer, namespace: str, sample: Any) -> None:
    for body in yaml.safe_load_all(sample.read_text()):
        assert difference(server, namespace, body) == []


@pytest.mark.parametrize(
    ("toleration", "message"),
    [
        ({"key": "gpu", "value": "yes"}, "need the operator Equal"),
        ({"key": "gpu", "operator": "Exists", "value": "yes"}, "need the operator Equal"),
        ({"operator": "Equal", "value": "yes"}, "need the operator Exists"),
    ],
)
def test_what_is_left_out_is_judged_as_what_it_means(
    server: ApiServer, namespace: str, toleration: dict[str, str], message: str
) -> None:
    contacts = {"inline": [{"phone": number(1)}]}
    body = campaign_body(namespace, "spring", contacts=contacts, worker={"tolerations": [toleration]})
    assert message in refusal(server, body)
