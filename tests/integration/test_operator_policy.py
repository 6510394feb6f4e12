"""Which ConfigMaps and pods the operator's token may touch: a real API server with the chart's policies and roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifest
from tests.integration.fleet_parts import MERGE
from tests.integration.operator_parts import campaign_body
from tests.integration.policy_parts import in_force, post_policies, refusal

from callfleet_core.api.campaign import CampaignSpec
from callfleet_operator.manifests import PoolDefaults, call_marks, pool_config_map, worker_account, worker_pod

NAMESPACE, NAME = "callfleet", "callfleet-operator"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SALES = "/api/v1/namespaces/sales"
MAPS, PODS = f"{SALES}/configmaps", f"{SALES}/pods"
DEFAULTS = PoolDefaults(
    "worker", "callfleet-worker", "callfleet-installation-carrier", "callfleet-keys", 1, "cpu", "Never"
)
PLAIN = {"name": "plain", "image": "worker"}
PRIVILEGED = PLAIN | {"securityContext": {"privileged": True}}
POOL_LABELS = {"callfleet.dev/pool": "pool-1"}


@dataclass(frozen=True)
class Doors:
    """The API server as its administrator and as the operator's token open it."""

    admin: ApiServer
    operator: ApiServer


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        for name in (NAMESPACE, "sales"):
            server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        for account in (worker_account(), {"metadata": {"name": "default"}}):
            server.request("POST", f"{SALES}/serviceaccounts", account)
        accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
        server.request("POST", accounts, {"metadata": {"name": NAME}})
        for kind, plural in (("ClusterRole", "clusterroles"), ("ClusterRoleBinding", "clusterrolebindings")):
            server.request("POST", f"{RBAC}/{plural}", manifest(kind, NAME))
        post_policies(server, NAME, f"{NAME}-pods")
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = server.request("POST", f"{accounts}/{NAME}/token", asked)
        doors = Doors(server, replace(server, token=token["status"]["token"]))
        server.request("POST", PODS, pod("somebodys", labels=None))
        in_force(lambda: refusal(doors.operator, "PATCH", f"{PODS}/somebodys", {"metadata": call_marks(1)}, MERGE))
        yield doors


def pod(name: str, *, labels: dict[str, str] | None = POOL_LABELS, **spec: Any) -> dict[str, Any]:
    """A worker's pod as the operator makes it; other labels, or None, and `spec` on top."""
    campaign = CampaignSpec.model_validate(
        campaign_body("sales", "spring", contacts={"listRef": {"name": "people"}})["spec"]
    )
    body = worker_pod(name, "pool-1", "a-uid", campaign, DEFAULTS)
    return body | {"metadata": {"name": name, "labels": labels}, "spec": body["spec"] | spec}


def test_the_operator_changes_and_deletes_its_pools_and_nobodys_contacts(doors: Doors) -> None:
    server, operator = doors.admin, doors.operator
    contacts = {"metadata": {"name": "contacts", "labels": {"callfleet.dev/pool": "another"}}}

    def deleted() -> str | None:
        said = refusal(operator, "DELETE", f"{MAPS}/contacts")
        if said is None:
            server.request("POST", MAPS, contacts)
        return said

    server.request("POST", MAPS, contacts)
    assert "only change and delete the ConfigMaps of its own pools" in in_force(deleted)
    for mine in (pool_config_map("pool-1", 1), {"metadata": {"name": "callfleet-ledger-witness"}}):
        server.request("POST", MAPS, mine)
    marks = {"metadata": {"annotations": pool_config_map("pool-1", 2)["metadata"]["annotations"]}}
    allowed = {name: refusal(operator, "PATCH", f"{MAPS}/{name}", marks, MERGE) is None for name in
               ("pool-1", "callfleet-ledger-witness", "contacts")}  # fmt: skip
    assert allowed == {"pool-1": True, "callfleet-ledger-witness": True, "contacts": False}
    assert refusal(operator, "DELETE", f"{MAPS}/pool-1") is None


def test_the_operator_makes_marks_and_deletes_workers(doors: Doors) -> None:
    assert refusal(doors.operator, "POST", PODS, pod("pool-1-a")) is None
    for epoch in (1, None):
        assert refusal(doors.operator, "PATCH", f"{PODS}/pool-1-a", {"metadata": call_marks(epoch)}, MERGE) is None
    assert refusal(doors.operator, "DELETE", f"{PODS}/pool-1-a") is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": None}, "only make, change and delete the pods of its own pools"),
        ({"serviceAccountName": "default"}, "only make pods with the service account callfleet-worker"),
        ({"hostNetwork": True}, "without hostNetwork, hostPID and hostIPC"),
        ({"hostPID": True}, "without hostNetwork, hostPID and hostIPC"),
        ({"hostIPC": True}, "without hostNetwork, hostPID and hostIPC"),
        ({"volumes": [{"name": "node", "hostPath": {"path": "/"}}], "containers": [PLAIN]}, "without hostPath volumes"),
        ({"containers": [PRIVILEGED]}, "without privileged containers"),
        ({"initContainers": [PRIVILEGED]}, "without privileged containers"),
    ],
)
def test_the_operator_makes_no_other_pods(doors: Doors, changed: dict[str, Any], said: str) -> None:
    assert said in (refusal(doors.operator, "POST", PODS, pod("pool-1-b", **changed)) or "")
    assert refusal(doors.admin, "POST", f"{PODS}?dryRun=All", pod("pool-1-b", **changed)) is None


def test_the_operator_leaves_other_pods_alone(doors: Doors) -> None:
    named = {"metadata": {"labels": POOL_LABELS}}
    for method, body in (("PATCH", (named, MERGE)), ("DELETE", ())):
        said = refusal(doors.operator, method, f"{PODS}/somebodys", *body)
        assert "only make, change and delete the pods of its own pools" in (said or "")
