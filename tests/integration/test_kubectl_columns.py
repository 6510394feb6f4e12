"""`kubectl get` on a real API server: what a user sees fits a terminal of 120 columns and says why a call waits."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.operator_parts import session_body

from callfleet.parts.api import program

WIDTH = 120
SESSIONS = "/apis/callfleet.dev/v1alpha1/namespaces/default/callsessions"
UNTIL = "2099-03-04T05:06:07Z"
WORKER, UID = "pool-db71092b-0", str(uuid.uuid4())
ATTEMPT = {"id": UID, "number": 1, "held": "0.036"}
STATUSES: dict[str, dict[str, Any] | None] = {
    "5g6h7j8k9q2w3": None,
    "2761gnkmwqadb": {
        "state": "Completed",
        "reason": None,
        "worker": WORKER,
        "attempt": ATTEMPT,
        "result": {"disposition": "notInterested", "durationSeconds": 92, "cost": "0.036", "settled": True},
    },
    "64qwhfjed7q3s": {"state": "Pending", "reason": "BudgetExhausted", "shortfall": "0.014"},
    "9x8c7v6b5n4m3": {"state": "Pending", "reason": "RetryScheduled", "retryAt": UNTIL, "attempt": ATTEMPT},
    "a1s2d3f4g5h6j": {"state": "InProgress", "reason": None, "worker": WORKER, "podUID": UID, "attempt": ATTEMPT},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        for suffix, status in STATUSES.items():
            name = f"spring-leads-1-{suffix}"
            body = session_body(name, campaign="spring-leads", contactID=str(uuid.uuid4()))
            server.request("POST", SESSIONS, body)
            if status is not None:
                server.patch_status("default", name, status)
        yield server


def kubectl(server: ApiServer, *arguments: str) -> list[str]:
    argv = [str(program("kubectl")), "--kubeconfig", str(server.kubeconfig), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_sessions_fit_the_terminal_and_say_what_is_missing_and_until_when(server: ApiServer) -> None:
    lines = kubectl(server, "get", "callsessions")
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].split() == ["NAME", "STATE", "REASON", "MISSING", "RETRY", "COST", "AGE"]
    rows = {line.split()[0].rsplit("-", 1)[1]: line.split()[1:-1] for line in lines[1:]}
    assert rows["2761gnkmwqadb"] == ["Completed", "0.036"]
    assert rows["64qwhfjed7q3s"] == ["Pending", "BudgetExhausted", "0.014"]
    assert rows["9x8c7v6b5n4m3"] == ["Pending", "RetryScheduled", UNTIL]
    assert rows["a1s2d3f4g5h6j"] == ["InProgress"]
    assert rows["5g6h7j8k9q2w3"] == ["Pending", "NoCapacity"]


def test_the_wide_table_adds_worker_attempt_and_disposition(server: ApiServer) -> None:
    lines = kubectl(server, "get", "callsessions", "-o", "wide")
    assert lines[0].split()[-3:] == ["WORKER", "ATTEMPT", "DISPOSITION"]
    assert [line.split()[-3:] for line in lines if "Completed" in line] == [[WORKER, "1", "notInterested"]]
