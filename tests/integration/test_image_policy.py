"""Which images a Campaign's workers may have: a real API server with the chart's policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.chart import manifests, rendered
from tests.integration.fleet_parts import MERGE
from tests.integration.operator_parts import GROUP, campaign_body
from tests.integration.policy_parts import in_force, post_policies, refusal

POLICY = "callfleet-worker-image"
CAMPAIGNS = f"{GROUP}/default/campaigns"
INSTALLED = "registry.example.com:5000/callfleet/worker:1.4.0"
ALLOWED = ["registry.example.com/voice/", "ghcr.io/acme/worker@", "ghcr.io/acme/other:1.0"]
VALUES: dict[str, Any] = {
    "worker": {"allowedImages": ALLOWED},
    "image": {"worker": {"repository": "registry.example.com:5000/callfleet/worker", "tag": "1.4.0"}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        server.request("POST", CAMPAIGNS, body("earlier", "evil.example.com/worker:1"))
        post_policies(server, POLICY, of=rendered(**VALUES))
        said = in_force(lambda: created(server, "evil.example.com/worker:1"))
        assert "leave it out for the installation's own" in said
        yield server


def body(name: str, image: str | None) -> dict[str, Any]:
    """A Campaign whose workers have that image."""
    return campaign_body("default", name, contacts={"listRef": {"name": "people"}}, worker={"image": image})


def created(server: ApiServer, image: str | None) -> str | None:
    """Why a new Campaign with that image was refused; None: it was taken."""
    return refusal(server, "POST", CAMPAIGNS, body(f"spring-{uuid4().hex[:8]}", image))


def changed(server: ApiServer, name: str, **spec: Any) -> str | None:
    """Why a change was refused; None: it was taken."""
    return refusal(server, "PATCH", f"{CAMPAIGNS}/{name}", {"spec": spec}, MERGE)


def test_without_a_list_there_is_no_policy() -> None:
    assert POLICY not in {item["metadata"]["name"] for item in manifests()}


@pytest.mark.parametrize(
    "image",
    [None, INSTALLED, "registry.example.com/voice/fast:2", "ghcr.io/acme/worker@sha256:0", "ghcr.io/acme/other:1.0"],
)
def test_what_is_on_the_list_and_the_installations_own_are_taken(server: ApiServer, image: str | None) -> None:
    assert created(server, image) is None


@pytest.mark.parametrize(
    "image",
    [
        "registry.example.com/voice-evil/fast:2",
        "ghcr.io/acme/worker:latest",
        "ghcr.io/acme/other:1.0.1",
        "ghcr.io/acme/other:1.0@sha256:0",
        f"{INSTALLED}@sha256:0",
    ],
)
def test_what_only_looks_like_it_is_refused(server: ApiServer, image: str) -> None:
    assert "does not allow this worker.image" in (created(server, image) or "")


def test_a_campaign_of_before_can_be_changed_elsewhere(server: ApiServer) -> None:
    assert changed(server, "earlier", suspend=True) is None
    assert changed(server, "earlier", worker={"image": "evil.example.com/worker:2"}) is not None
    assert changed(server, "earlier", worker={"image": INSTALLED}) is None
    assert changed(server, "earlier", worker={"image": "evil.example.com/worker:1"}) is not None
