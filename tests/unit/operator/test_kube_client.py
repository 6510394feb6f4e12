"""How the operator's client reaches the API server: by the environment's proxy, and without a look into ~/.netrc."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callfleet_operator.kube import Kube

URL = "https://api.example.com:6443"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": {"server": URL}}],
        "users": [{"name": "one", "user": {"token": "made-up"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    return path


async def _proxy(kubeconfig: Path) -> str | None:
    kube = await Kube.connect(kubeconfig)
    try:
        rest = kube._api.rest_client
        assert not rest.pool_manager.trust_env  # or ~/.netrc would be read before every request
        return None if rest.proxy is None else str(rest.proxy)
    finally:
        await kube.close()


async def test_the_environments_proxy_is_used_where_it_is_meant(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert await _proxy(kubeconfig) == "http://proxy.example.com:3128"
    monkeypatch.setenv("NO_PROXY", "api.example.com")
    assert await _proxy(kubeconfig) is None
