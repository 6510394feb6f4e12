"""What a worker's own token may write, on a real API server with the chart's policy and roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.error import HTTPError
from uuid import uuid4

import pytest
from tests.integration import policy_parts
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifest, manifests
from tests.integration.fleet_parts import MERGE
from tests.integration.operator_parts import GROUP, session_body
from tests.integration.policy_parts import in_force, post_policies

from callfleet_worker.supervisor.kube import bound_session, progress_patch

NAMESPACE = "sales"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        post = server.request
        post("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name in ("callfleet-worker", "other"):
            post("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": name}})
            binding = {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "callfleet-worker"},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
            }
            post("POST", f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", binding)
        post("POST", f"{RBAC}/clusterroles", manifest("ClusterRole", "callfleet-worker"))
        post_policies(server, "callfleet-worker")
        yield server


@dataclass(frozen=True)
class Worker:
    """A pod, and the API server as its token opens it."""

    uid: str
    api: ApiServer


def worker(server: ApiServer, account: str = "callfleet-worker") -> Worker:
    """A worker pod with a token such as the kubelet gives it."""
    name = f"pool-{uuid4().hex[:8]}"
    spec = {"serviceAccountName": account, "containers": [{"name": "worker", "image": "worker"}]}
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    pod = server.request("POST", pods, {"metadata": {"name": name}, "spec": spec})
    uid = pod["metadata"]["uid"]
    bound = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": bound}
    token = server.request("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token", asked)
    return Worker(uid, replace(server, token=token["status"]["token"]))


def session(server: ApiServer, pod_uid: str) -> str:
    """A session that the operator has bound to a pod."""
    name = f"session-{uuid4().hex[:8]}"
    body = session_body(name, campaign="spring", contactID=str(uuid4()))
    server.request("POST", f"{GROUP}/{NAMESPACE}/callsessions", body)
    attempt = {"id": str(uuid4()), "number": 1, "held": "0.036"}
    server.patch_status(
        NAMESPACE, name, {"state": "Admitted", "worker": "pool-1", "podUID": pod_uid, "attempt": attempt}
    )
    return name


def status_of(server: ApiServer, name: str) -> dict[str, Any]:
    """A session's, as it is stored."""
    found: dict[str, Any] = server.request("GET", f"{GROUP}/{NAMESPACE}/callsessions/{name}")["status"]
    return found


def refusal(of: Worker, name: str, status: dict[str, Any]) -> str | None:
    """Why a worker's write was refused; None: it was taken."""
    path = f"{GROUP}/{NAMESPACE}/callsessions/{name}/status"
    return policy_parts.refusal(of.api, "PATCH", path, {"status": status}, MERGE)


@pytest.fixture(scope="module")
def own(server: ApiServer) -> Worker:
    """A worker, once the policy is in force."""
    found = worker(server)
    foreign = session(server, str(uuid4()))
    in_force(lambda: refusal(found, foreign, {"callSID": "CA" + "0" * 32}))
    return found


def test_a_worker_tells_how_its_own_calls_go(server: ApiServer, own: Worker) -> None:
    name = session(server, own.uid)
    path = f"{GROUP}/{NAMESPACE}/callsessions/{name}"
    states: tuple[Literal["Dialing", "InProgress"], ...] = ("Dialing", "InProgress")
    for state in states:
        bound = bound_session(own.api.request("GET", path))
        assert bound is not None
        patch = progress_patch(bound, state, "CA" + "1" * 32, datetime.now(UTC))
        assert refusal(own, name, patch["status"]) is None
    stored = status_of(server, name)
    assert (stored["state"], {item["type"] for item in stored["conditions"]}) == (
        "InProgress",
        {"Admitted", "Connected"},
    )
    assert refusal(own, name, {"state": "InProgress"}) is None


@pytest.mark.parametrize("state", ["Pending", "Completed", "Failed", "Canceled"])
def test_a_worker_cannot_take_back_that_a_call_is_over(server: ApiServer, own: Worker, state: str) -> None:
    name = session(server, own.uid)
    server.patch_status(NAMESPACE, name, {"state": state})
    assert "a call that is over, or not admitted yet" in str(refusal(own, name, {"state": "InProgress"}))


@pytest.mark.parametrize("kind", ["Admitted", "Finished", "Settled"])
def test_a_worker_cannot_write_what_the_operator_says(server: ApiServer, own: Worker, kind: str) -> None:
    name = session(server, own.uid)
    forged = {
        "type": kind, "status": "True", "reason": "Forged", "message": "Forged.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    kept = [item for item in status_of(server, name)["conditions"] if item["type"] != kind]
    for conditions in ([*kept, forged], []):
        refused = refusal(own, name, {"state": "Dialing", "conditions": conditions})
        assert "may only write the condition Connected" in str(refused)


def test_a_worker_cannot_change_metadata_beside_a_status(server: ApiServer, own: Worker) -> None:
    path = f"{GROUP}/{NAMESPACE}/callsessions/{session(server, own.uid)}"
    meta = {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}
    body = {"metadata": meta, "status": {"state": "Dialing"}}
    own.api.request("PATCH", f"{path}/status", body, "application/merge-patch+json")
    assert not {"labels", "finalizers"} & server.request("GET", path)["metadata"].keys()


def test_a_worker_cannot_touch_another_pods_session(server: ApiServer, own: Worker) -> None:
    refused = refusal(own, session(server, worker(server).uid), {"state": "Dialing"})
    assert "bound to its own pod" in str(refused)


@pytest.mark.parametrize("state", ["Pending", "Completed", "Failed", "Canceled"])
def test_a_worker_cannot_end_a_call_or_give_it_back(server: ApiServer, own: Worker, state: str) -> None:
    assert "Dialing or InProgress" in str(refusal(own, session(server, own.uid), {"state": state}))


@pytest.mark.parametrize(
    "change",
    [
        {"podUID": str(uuid4())},
        {"podUID": None},
        {"worker": "pool-2"},
        {"attempt": {"id": str(uuid4())}},
        {"result": {"settled": True}},
        {"reason": "DoNotCall"},
    ],
)
def test_a_worker_cannot_change_whose_call_it_is_or_what_it_costs(
    server: ApiServer, own: Worker, change: dict[str, Any]
) -> None:
    refused = refusal(own, session(server, own.uid), {"state": "Dialing", **change})
    assert "may not change whose call it is" in str(refused)


def test_a_worker_says_once_which_call_it_placed(server: ApiServer, own: Worker) -> None:
    """The ledger is rebuilt by what sessions say of calls, when its database was restored."""
    name = session(server, own.uid)
    for sid in ("CA" + "x" * 32, "callfleet"):
        assert "the carrier's SID" in str(refusal(own, name, {"state": "Dialing", "callSID": sid}))
    assert refusal(own, name, {"state": "Dialing"}) is None
    assert refusal(own, name, {"state": "Dialing", "callSID": "CA" + "1" * 32}) is None
    for other in ("CA" + "2" * 32, None):
        assert "the carrier's SID" in str(refusal(own, name, {"state": "InProgress", "callSID": other}))
    assert refusal(own, name, {"state": "InProgress", "callSID": "CA" + "1" * 32}) is None
    server.patch_status(NAMESPACE, name, {"state": "Admitted", "callSID": None})
    assert refusal(own, name, {"state": "Dialing", "callSID": "CA" + "2" * 32}) is None


def test_a_worker_cannot_write_a_spec(server: ApiServer, own: Worker) -> None:
    path = f"{GROUP}/{NAMESPACE}/callsessions/{session(server, own.uid)}"
    with pytest.raises(HTTPError, match="403"):
        own.api.request("PATCH", path, {"spec": {"cancel": True}}, "application/merge-patch+json")


def test_a_token_that_names_no_pod_writes_nothing(server: ApiServer, own: Worker) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/callfleet-worker/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = server.request("POST", path, asked)["status"]["token"]
    unbound = Worker(own.uid, replace(server, token=token))
    assert "bound to its own pod" in str(refusal(unbound, session(server, own.uid), {"state": "Dialing"}))


def test_others_are_not_the_policys_business(server: ApiServer, own: Worker) -> None:
    other = worker(server, account="other")
    assert refusal(other, session(server, str(uuid4())), {"state": "Completed"}) is None


def test_the_chart_renders_everything_that_an_installation_needs() -> None:
    kinds = {(body["kind"], body["metadata"]["name"]) for body in manifests()}
    assert {("Deployment", "callfleet-operator"), ("Deployment", "callfleet-gateway")} <= kinds
    assert manifest("Deployment", "callfleet-operator")["spec"]["replicas"] == 2
    secret = manifest("Secret", "callfleet-operator")["stringData"]
    assert secret["CALLFLEET_OLLAMA_ENDPOINTS"] == "http://10.0.0.1:11434,http://10.0.0.2:11434"
