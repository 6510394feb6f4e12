"""Which ConfigMaps the operator's token may change and delete: a real API server with the chart's policy and roles."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifest
from tests.integration.fleet_parts import MERGE

from callfleet_operator.manifests import pool_config_map

NAMESPACE, NAME = "callfleet", "callfleet-operator"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MAPS = "/api/v1/namespaces/sales/configmaps"
ACTIVE_TIMEOUT_S = 30.0


def the_operator(server: ApiServer) -> ApiServer:
    """The API server as the operator's token opens it, with the chart's roles and policy."""
    for name in (NAMESPACE, "sales"):
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    server.request("POST", accounts, {"metadata": {"name": NAME}})
    for kind, plural in (("ClusterRole", "clusterroles"), ("ClusterRoleBinding", "clusterrolebindings")):
        server.request("POST", f"{RBAC}/{plural}", manifest(kind, NAME))
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        plural = "validatingadmissionpolicies" if kind.endswith("Policy") else "validatingadmissionpolicybindings"
        server.request("POST", f"{ADMISSION}/{plural}", manifest(kind, NAME))
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = server.request("POST", f"{accounts}/{NAME}/token", asked)
    return replace(server, token=token["status"]["token"])


def refusal(operator: ApiServer, name: str, method: str = "DELETE", *body: Any) -> str | None:
    """Why a request was refused; None: it was done."""
    try:
        operator.request(method, f"{MAPS}/{name}", *body)
    except HTTPError as error:
        if error.code != 403:
            raise
        return error.read().decode()
    return None


def test_the_operator_changes_and_deletes_its_pools_and_nobodys_contacts(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        operator = the_operator(server)
        deadline = time.monotonic() + ACTIVE_TIMEOUT_S
        contacts = {"metadata": {"name": "contacts", "labels": {"callfleet.dev/pool": "another"}}}
        server.request("POST", MAPS, contacts)
        while (said := refusal(operator, "contacts")) is None:
            assert time.monotonic() < deadline, "the policy never came into force"
            time.sleep(0.2)
            server.request("POST", MAPS, contacts)
        assert "only change and delete the ConfigMaps of its own pools" in said
        for mine in (pool_config_map("pool-1", 1), {"metadata": {"name": "callfleet-ledger-witness"}}):
            server.request("POST", MAPS, mine)
        marks = {"metadata": {"annotations": pool_config_map("pool-1", 2)["metadata"]["annotations"]}}
        allowed = {name: refusal(operator, name, "PATCH", marks, MERGE) is None for name in
                   ("pool-1", "callfleet-ledger-witness", "contacts")}  # fmt: skip
        assert allowed == {"pool-1": True, "callfleet-ledger-witness": True, "contacts": False}
        assert refusal(operator, "pool-1") is None
