"""Risky settings are warned of by the API server, with the chart's own policies, and nothing is refused."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifest
from tests.integration.operator_parts import GROUP, campaign_body
from tests.integration.policy_parts import in_force, post_policies

NAMESPACE = "default"
WEEKDAYS = {"schedule": {"windows": [{"days": ["Mon", "Fri"], "from": "09:00", "to": "17:00"}]}}
ORDINARY = {"limits": {"total": "5.00"}, **WEEKDAYS}
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


def installed_image() -> str:
    """The worker's image that the chart installs."""
    pod = manifest("Deployment", "callfleet-operator")["spec"]["template"]["spec"]
    (image,) = (item["value"] for item in pod["containers"][0]["env"] if item["name"] == "CALLFLEET_WORKER_IMAGE")
    return str(image)


def often(times: int, busy: int, no_answer: int) -> dict[str, Any]:
    """Attempts, with the minutes between them."""
    return {"max": times, "retryAfterMinutes": {"busy": busy, "noAnswer": no_answer}}


def create(server: ApiServer, **spec: Any) -> str:
    """A new Campaign's warnings."""
    body = campaign_body(NAMESPACE, f"spring-{uuid4().hex[:8]}", contacts={"listRef": {"name": "people"}}, **spec)
    return " ".join(send(server, "POST", f"{GROUP}/{NAMESPACE}/campaigns", body))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        post_policies(server, "callfleet-campaign-advice", "callfleet-budget-advice")
        in_force(lambda: create(server) or None)
        yield server


def test_an_ordinary_campaign_is_taken_without_a_word(server: ApiServer) -> None:
    assert create(server, **ORDINARY) == ""
    assert create(server, budgetRefs=[{"name": "us-sales"}], **WEEKDAYS) == ""
    assert create(server, **ORDINARY, worker={"image": installed_image()}) == ""
    assert create(server, **ORDINARY, attempts=often(1, 1, 1)) == ""
    assert create(server, **ORDINARY, attempts=often(2, 5, 5)) == ""


@pytest.mark.parametrize(
    ("spec", "warning"),
    [
        ({}, "no limits and no budgetRefs"),
        ({"limits": {"perCall": "0.50"}}, "no limits and no budgetRefs"),
        ({"limits": {"daily": None}}, "no limits and no budgetRefs"),
        ({**ORDINARY, "attempts": {"max": 4}}, "attempts.max is above 3"),
        ({**ORDINARY, "call": {"from": ["+15550100199"], "maxDurationSeconds": 1801}}, "above half an hour"),
        ({**ORDINARY, "deletionPolicy": "HangUp"}, "in the middle of a sentence"),
        ({**ORDINARY, "worker": SIX_SLOTS}, "worker.slotsPerWorker is above 5"),
        (
            {**ORDINARY, "worker": {"image": "registry.example.com/worker:1"}},
            "worker.image is not the installation's own",
        ),
        ({**ORDINARY, "attempts": often(2, 4, 5)}, "attempts.retryAfterMinutes is below 5"),
        ({**ORDINARY, "attempts": often(2, 5, 4)}, "attempts.retryAfterMinutes is below 5"),
        ({**ORDINARY, "schedule": None}, "no schedule.windows"),
        ({**ORDINARY, "schedule": {"notAfter": "2030-01-01T00:00:00Z"}}, "no schedule.windows"),
        ({**ORDINARY, "schedule": {"windows": None, "notAfter": "2030-01-01T00:00:00Z"}}, "no schedule.windows"),
    ],
)
def test_a_risky_setting_is_warned_of_and_taken(server: ApiServer, spec: dict[str, Any], warning: str) -> None:
    assert warning in create(server, **spec)


def test_another_run_is_warned_of_and_no_other_change(server: ApiServer) -> None:
    body = campaign_body(NAMESPACE, "runs", contacts={"listRef": {"name": "people"}}, **ORDINARY)
    assert send(server, "POST", f"{GROUP}/{NAMESPACE}/campaigns", body) == []
    path = f"{GROUP}/{NAMESPACE}/campaigns/runs"
    assert send(server, "PATCH", path, {"spec": {"suspend": True}}) == []
    (warned,) = send(server, "PATCH", path, {"spec": {"runID": "2"}})
    assert "whoever was called before is called again" in warned


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
    stored = server.request("GET", f"{path}/{name}")
    stored["spec"]["limits"] = {"daily": None, "total": "50.00"}
    assert send(server, "PUT", f"{path}/{name}", stored) == []
    stored = server.request("GET", f"{path}/{name}")
    stored["spec"]["limits"] = {"daily": None, "total": "19.99"}
    (warned,) = send(server, "PUT", f"{path}/{name}", stored)
    assert "below what is spent already" in warned
