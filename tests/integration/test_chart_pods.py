"""How the chart's own pods stand: on which nodes, how many of them may be away, and where from."""

from __future__ import annotations

import pytest
from tests.integration.chart import manifest, rendered


@pytest.mark.parametrize("name", ["callfleet-operator", "callfleet-gateway"])
def test_there_are_two_on_nodes_of_their_own(name: str) -> None:
    spec = manifest("Deployment", name)["spec"]
    assert spec["replicas"] == 2
    (apart,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    assert apart["podAffinityTerm"] == {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": spec["selector"],
    }
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_gateways_are_evicted_one_at_a_time() -> None:
    budget = manifest("PodDisruptionBudget", "callfleet-gateway")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == manifest("Deployment", "callfleet-gateway")["spec"]["selector"]


def test_all_pull_from_a_registry_that_asks_who_they_are() -> None:
    asked = [{"name": "registry"}]
    pods = [body["spec"]["template"]["spec"] for body in rendered(imagePullSecrets=asked)
            if body["kind"] in {"Deployment", "Job"}]  # fmt: skip
    assert [pod["imagePullSecrets"] for pod in pods] == [asked] * 4
