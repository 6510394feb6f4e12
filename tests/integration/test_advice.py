"""Risky settings are warned of by the API server, with the chart's own policies, and nothing is refused."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifest
from tests.integration.operator_parts import GROUP, campaign_body

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
NAMESPACE = "default"
ACTIVE_TIMEOUT_S = 30.0
LIMITED = {"limits": {"total": "5.00"}}
SIX_SLOTS = {"slotsPerWorker": 6, "resources": {"limits": {"memory": "4Gi"}}}


def send(server: ApiServer, method: str, path: str, body: dict[str, Any]) -> list[str]:
    """Sends an object; answers the server's warnings."""
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    request = urllib.request.Request(  # noqa: S310 - https on loopback
        server.url + path, data=json.dumps(body).encode(), method=method,
        headers={"Authorization": f"Bearer {server.token}", "Content-Type": kind},
    )  # fmt: skip
    context = ssl._create_unverified_context()  # noqa: S323 - its certificate is a minute old
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 - as above
        return answer.headers.get_all("Warning") or []


def create(server: ApiServer, **spec: Any) -> str:
    """A new Campaign's warnings."""
    body = campaign_body(NAMESPACE, f"spring-{uuid4().hex[:8]}", contacts={"listRef": {"name": "people"}}, **spec)
    return " ".join(send(server, "POST", f"{GROUP}/{NAMESPACE}/campaigns", body))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        for name in ("callfleet-campaign-advice", "callfleet-budget-advice"):
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
                plural = (
                    "validatingadmissionpolicies" if kind.endswith("Policy") else "validatingadmissionpolicybindings"
                )
                server.request("POST", f"{ADMISSION}/{plural}", manifest(kind, name))
        deadline = time.monotonic() + ACTIVE_TIMEOUT_S
        while not create(server):
            assert time.monotonic() < deadline, "the policy never came into force"
            time.sleep(0.2)
        yield server


def test_an_ordinary_campaign_is_taken_without_a_word(server: ApiServer) -> None:
    assert create(server, **LIMITED) == ""
    assert create(server, budgetRefs=[{"name": "us-sales"}]) == ""


@pytest.mark.parametrize(
    ("spec", "warning"),
    [
        ({}, "no limits and no budgetRefs"),
        ({"limits": {"perCall": "0.50"}}, "no limits and no budgetRefs"),
        ({**LIMITED, "attempts": {"max": 4}}, "attempts.max is above 3"),
        ({**LIMITED, "call": {"from": ["+15550100199"], "maxDurationSeconds": 1801}}, "above half an hour"),
        ({**LIMITED, "deletionPolicy": "HangUp"}, "in the middle of a sentence"),
        ({**LIMITED, "worker": SIX_SLOTS}, "worker.slotsPerWorker is above 5"),
    ],
)
def test_a_risky_setting_is_warned_of_and_taken(server: ApiServer, spec: dict[str, Any], warning: str) -> None:
    assert warning in create(server, **spec)


def test_a_limit_below_what_is_spent_is_warned_of(server: ApiServer) -> None:
    name = f"budget-{uuid4().hex[:8]}"
    path = f"{GROUP}/{NAMESPACE}/budgets"
    body = {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": {"name": name},
        "spec": {"currency": "USD", "limits": {"daily": "10.00", "total": "50.00"}},
    }  # fmt: skip
    assert send(server, "POST", path, body) == []
    windows = [
        {"kind": "Daily", "limit": "10.00", "held": "0", "spent": "4.20", "left": "5.80"},
        {"kind": "Total", "limit": "50.00", "held": "0", "spent": "20", "left": "30"},
    ]
    send(server, "PATCH", f"{path}/{name}/status", {"status": {"windows": windows}})
    assert send(server, "PATCH", f"{path}/{name}", {"spec": {"limits": {"daily": "4.20"}}}) == []
    (warned,) = send(server, "PATCH", f"{path}/{name}", {"spec": {"limits": {"daily": "4.19"}}})
    assert "below what is spent already" in warned
    (warned,) = send(server, "PATCH", f"{path}/{name}", {"spec": {"limits": {"daily": "5", "total": "19.99"}}})
    assert "below what is spent already" in warned
