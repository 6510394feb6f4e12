"""One cluster and one installation for the whole run; each test has a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster.world import OWN_ACCOUNT, World

from callfleet import hostservices
from callfleet.checkout import sample
from callfleet.cluster.api import cluster as started_cluster
from callfleet.cluster.handle import ClusterHandle
from callfleet.hostservices import PostgresServer
from callfleet.images import build
from callfleet.installation import Installation, Settings, installation_databases, installed

CLUSTER = "callfleet-tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[ClusterHandle]:
    """The run's own cluster; never a foreign one."""
    with started_cluster(CLUSTER) as handle:
        yield handle


@pytest.fixture(scope="session")
def settings(kubernetes: ClusterHandle) -> Iterator[Settings]:
    """Images in the cluster, and PostgreSQL, Redis and Ollama of the run on its bridge."""
    bridge = kubernetes.bridge_address
    assert bridge is not None, "the tests' cluster is one of ours"
    images = build()
    for image in images.values():
        kubernetes.load_image(image.layout)
    listen = ("127.0.0.1", bridge)
    with (
        hostservices.postgres(listen) as postgres,
        hostservices.redis(listen) as redis,
        hostservices.ollama(bridge) as ollama,
        installation_databases(_at_loopback(postgres), "callfleet_test") as databases,
    ):
        yield Settings(
            databases=databases.at(bridge),
            redis_url=redis.url_at(bridge),
            ollama_url=ollama.proxy_url or ollama.url,
            ollama_token=ollama.token,
            people=_people(),
            operator_image=images["operator"].ref,
            worker_image=images["worker-demo"].ref,
            values={"simulator": {"accounts": [":".join(OWN_ACCOUNT)]}},
        )


def _people() -> str:
    """The demo's people and the tests' own."""
    everybody = yaml.safe_load(sample("demo-people.yaml").read_text())
    own = yaml.safe_load(Path(__file__).with_name("people.yaml").read_text())
    assert not everybody["people"].keys() & own["people"].keys(), "each number is one person"
    everybody["people"] |= own["people"]
    return yaml.safe_dump(everybody)


def _at_loopback(server: PostgresServer) -> str:
    return server.url_at("127.0.0.1")


@pytest.fixture(scope="session")
def installation(
    kubernetes: ClusterHandle, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """CallFleet, installed by its chart, with the simulator as the carrier."""
    with installed(kubernetes, settings, tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture
def world(installation: Installation) -> Iterator[World]:
    """A namespace of the test's own."""
    world = World(installation, f"t-{secrets.token_hex(4)}")
    world.create()
    yield world
    world.delete()
