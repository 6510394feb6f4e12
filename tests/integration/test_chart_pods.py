"""How the chart's own pods stand: on which nodes, and how many of them may be away."""

from __future__ import annotations

import pytest
from tests.integration.chart import manifest


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
