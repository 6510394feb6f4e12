"""Who provides a cluster, where the environment says so."""

from __future__ import annotations

import pytest

from callfleet.cluster.api import PROVIDER_VARIABLE, wanted_provider
from callfleet.cluster.errors import ClusterError


@pytest.mark.parametrize(("value", "expected"), [("", None), ("kind", "kind"), ("local", "local")])
def test_a_provider_can_be_asked_for(value: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROVIDER_VARIABLE, value)
    assert wanted_provider() == expected


def test_a_provider_that_does_not_exist_is_refused_with_the_ones_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROVIDER_VARIABLE, "minikube")
    with pytest.raises(ClusterError, match="set it to kind or local"):
        wanted_provider()
