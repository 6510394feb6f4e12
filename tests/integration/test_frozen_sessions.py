"""What may change of a CallSession's spec: nothing but that it is canceled. Judged by a real API server."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import pytest
from tests.integration.apiserver import ApiServer
from tests.integration.operator_parts import GROUP, session_body

from callfleet_core.api.callsession import CallSessionSpec
from callfleet_core.api.crds import schema

MERGE = "application/merge-patch+json"
CONTACT, OTHER = "0192f0c4-0000-7000-8000-000000000000", "0192f0c5-0000-7000-8000-000000000000"
LEAST: dict[str, Any] = {"campaign": "spring", "contactID": CONTACT}
WHOLE: dict[str, Any] = {
    **LEAST, "campaignUID": CONTACT, "campaignGeneration": 1, "runID": "2", "priority": 5, "currency": "EUR",
    "maxCost": "1.00", "maxDurationSeconds": 60, "notAfter": "2026-12-01T09:00:00Z",
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "campaign": "summer", "contactID": OTHER, "campaignUID": OTHER, "campaignGeneration": 2, "runID": "3",
    "priority": 6, "currency": "USD", "maxCost": "2.00", "maxDurationSeconds": 61, "notAfter": "2026-12-01T10:00:00Z",
}  # fmt: skip
_SCHEMA = schema(CallSessionSpec)
OPTIONAL = sorted(name for name, field in _SCHEMA["properties"].items() if field.get("nullable"))
DEFAULTED = sorted(name for name, field in _SCHEMA["properties"].items() if "default" in field and name != "cancel")


def _made(server: ApiServer, namespace: str, spec: dict[str, Any]) -> str:
    server.request("POST", f"{GROUP}/{namespace}/callsessions", session_body("call", **spec))
    return f"{GROUP}/{namespace}/callsessions/call"


def _refused(server: ApiServer, path: str, spec: dict[str, Any]) -> str:
    return _refusal(server, "PATCH", path, {"spec": spec}, MERGE)


def _refusal(server: ApiServer, *request: Any) -> str:
    with pytest.raises(HTTPError) as raised:
        server.request(*request)
    assert raised.value.code == 422
    return raised.value.read().decode()


def test_no_field_is_forgotten_here() -> None:
    assert {*WHOLE, "cancel"} == set(_SCHEMA["properties"])
    assert {*_SCHEMA["required"], *OPTIONAL, *DEFAULTED} == set(WHOLE) == set(OTHERS)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_value_cannot_be_changed(server: ApiServer, namespace: str, name: str) -> None:
    path = _made(server, namespace, WHOLE)
    assert f"{name} cannot be changed, only cancel can" in _refused(server, path, {name: OTHERS[name]})


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_may_be_absent_cannot_be_added_or_left_out_later(server: ApiServer, namespace: str, name: str) -> None:
    path = _made(server, namespace, LEAST)
    assert f"{name} cannot be changed" in _refused(server, path, {name: WHOLE[name]})
    server.request("DELETE", path)
    path = _made(server, namespace, WHOLE)
    assert f"{name} cannot be changed" in _refused(server, path, {name: None})
    server.request("DELETE", path)
    path = _made(server, namespace, {**LEAST, name: None})
    assert f"{name} cannot be changed" in _refused(server, path, {name: WHOLE[name]})


@pytest.mark.parametrize("name", DEFAULTED)
def test_what_has_a_default_cannot_be_left_to_it_later(server: ApiServer, namespace: str, name: str) -> None:
    path = _made(server, namespace, WHOLE)
    assert f"{name} cannot be changed" in _refused(server, path, {name: None})
    server.request("DELETE", path)
    path = _made(server, namespace, LEAST)
    assert f"{name} cannot be changed" in _refused(server, path, {name: WHOLE[name]})


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_replacement_may_not_leave_anything_out(server: ApiServer, namespace: str, name: str) -> None:
    path = _made(server, namespace, WHOLE)
    known = server.request("GET", path)
    del known["spec"][name]
    assert name in _refusal(server, "PUT", path, known)


@pytest.mark.parametrize("spec", [LEAST, {**LEAST, **dict.fromkeys(OPTIONAL)}], ids=["least", "nulls"])
def test_what_is_stored_may_be_written_on(server: ApiServer, namespace: str, spec: dict[str, Any]) -> None:
    path = _made(server, namespace, spec)
    made = server.request("GET", path)["spec"]
    server.patch_status(namespace, "call", {"state": "Pending", "reason": "Pacing"})
    held = server.request("PATCH", path, {"metadata": {"finalizers": ["callfleet.dev/settle"]}}, MERGE)
    assert held["metadata"]["finalizers"] == ["callfleet.dev/settle"]
    server.request("PATCH", path, {"spec": {"cancel": True}}, MERGE)
    server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
    found = server.request("GET", path)
    assert found["spec"] == {**made, "cancel": True}
    assert (found["status"]["state"], found["status"]["reason"]) == ("Pending", "Pacing")
    assert "finalizers" not in found["metadata"]


def test_a_cancellation_is_for_good_and_a_status_may_be_written(server: ApiServer, namespace: str) -> None:
    path = _made(server, namespace, WHOLE)
    server.patch_status(namespace, "call", {"state": "Pending", "reason": "Pacing"})
    server.request("PATCH", path, {"spec": {"cancel": True}}, MERGE)
    assert "stays canceled" in _refused(server, path, {"cancel": False})
    assert "stays canceled" in _refused(server, path, {"cancel": None})
    server.patch_status(namespace, "call", {"state": "Canceled"})
    found = server.request("GET", path)
    assert (found["spec"]["cancel"], found["status"]["state"]) == (True, "Canceled")
