"""`callfleet explain` beside objects and reasons of another release: it says so, and shows nothing that they hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from tests.integration.operator_parts import campaign_body

PHONE, NAME = "+15550100142", "Ada Example"
SPACE = "sales"
Objects = dict[str, list[dict[str, Any]]]


def stored(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    server = {"uid": str(UUID(int=1)), "resourceVersion": "1", "creationTimestamp": "2026-11-22T08:00:00Z"}
    return {**body, "metadata": {"namespace": SPACE, **body["metadata"], **server}, **more}


def campaign(name: str, **spec: Any) -> dict[str, Any]:
    return stored(campaign_body(SPACE, name, contacts={"listRef": {"name": "people"}}, **spec))


def session(owner: str, position: int, reason: str, **more: Any) -> dict[str, Any]:
    spec = {"campaign": owner, "contactID": str(UUID(int=position)), **more}
    return stored({"metadata": {"name": f"{owner}-{position}"}, "spec": spec}, status={"reason": reason})


@pytest.fixture
def objects() -> Objects:
    """A namespace in which half of what there is was written for another release."""
    person = {"phone": PHONE, "name": NAME, "consent": {"kind": f"of {NAME}"}, "greeting": f"Hello {NAME}"}
    later = stored(campaign_body(SPACE, "later", contacts={"inline": [person]}, shape=f"as {NAME} says"))
    budget = {"metadata": {"name": "all"}, "spec": {"limits": {"total": PHONE}, "scope": "Namespace"}}
    gone = session("spring", 8, "NoCapacity", to=PHONE)
    return {
        "campaigns": [campaign("spring"), later],
        "budgets": [stored(budget)],
        "callsessions": [
            session("spring", 1, "NoCapacity"), session("spring", 2, "FullMoon"), session("later", 3, "NoCapacity"),
            session("spring", 4, "NoCapacity", to=PHONE), session("spring", 5, "NoCapacity", to=PHONE),
            {**session("spring", 6, "NoCapacity"), "status": {"state": "Dreaming"}},
            {**gone, "status": {"state": "Completed"}},
        ],
    }  # fmt: skip


@pytest.fixture
def kubeconfig(objects: Objects, tmp_path: Path) -> Iterator[Path]:
    """The way to an API server that lists them."""

    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            plural = self.path.partition("?")[0].rpartition("/")[2]
            body = json.dumps({"metadata": {}, "items": objects[plural]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any, **__: Any) -> None:
            """Tells nobody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "me", "user": {}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(found))
        yield path
        server.shutdown()


def explain(kubeconfig: Path, *arguments: str, code: int = 0) -> str:
    """What the command says, without a traceback and without anything personal."""
    argv = [sys.executable, "-m", "callfleet", "explain", *arguments, "-n", SPACE]
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert [word for word in ("Traceback", PHONE, *NAME.split()) if word in said] == []
    return said


def test_what_can_be_read_is_explained_beside_what_cannot(kubeconfig: Path) -> None:
    said = explain(kubeconfig, "spring-1")
    assert said.startswith("spring-1 of campaign spring: Pending, NoCapacity\n")
    assert "in line for a worker's slot: place 1" in said
    assert "  Campaign later cannot be read by this release: spec.contacts.inline.0.consent" in said
    assert "spec.shape: Extra inputs are not permitted" in said
    assert "  Budget all cannot be read by this release: spec.limits.total: String should match pattern" in said
    # One for all sessions that may wait; who is over takes nobody's turn.
    assert "  CallSession spring-4 cannot be read by this release (nor 2 more): spec.to: Extra inputs" in said
    assert "use the callfleet of the operator's release" in said


def test_a_session_whose_campaign_cannot_be_read_says_so(kubeconfig: Path) -> None:
    said = explain(kubeconfig, "later-3")
    assert "Campaign later cannot be read by this release: " in said
    assert "CallSession" not in said


def test_programs_are_told_what_was_left_out(kubeconfig: Path) -> None:
    left_out = json.loads(explain(kubeconfig, "campaign/spring", "--json"))["unreadable"]
    assert [(item["kind"], item["name"], item["more"]) for item in left_out] == [
        ("Budget", "all", 0),
        ("CallSession", "spring-4", 2),
    ]
    left_out = json.loads(explain(kubeconfig, "spring-1", "--json"))["unreadable"]
    assert [item["name"] for item in left_out] == ["all", "later", "spring-4"]


@pytest.mark.parametrize(("what", "kind"), [("campaign/later", "Campaign"), ("spring-5", "CallSession")])
def test_what_cannot_be_read_itself_is_not_explained(kubeconfig: Path, what: str, kind: str) -> None:
    said = explain(kubeconfig, what, code=1)
    name = what.rpartition("/")[2]
    assert said.startswith(f"callfleet: {kind} {name} cannot be read by this release: spec.")


def test_a_reason_of_a_newer_operator_is_shown_as_it_is(kubeconfig: Path) -> None:
    advice = "this callfleet does not know that reason: use the one of the operator's release"
    said = explain(kubeconfig, "spring-2")
    assert said.startswith(f"spring-2 of campaign spring: Pending, FullMoon\n  {advice}\n")
    queue = explain(kubeconfig, "campaign/spring")
    assert f"  FullMoon: 1\n    {advice}\n" in queue
    assert "  NoCapacity: 1\n    wait for a worker" in queue
