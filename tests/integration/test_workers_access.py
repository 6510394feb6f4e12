"""What workers need in a namespace: made, made again, given again, and no more than that; on a real API server."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import GROUP

from callfleet_core.carriers import Source

COOL_DOWN = timedelta(seconds=121)


async def test_a_namespace_that_is_made_again_gets_all_that_workers_need_again(fleet: Fleet) -> None:
    """The API server alone deletes no namespace's objects: the test does, as a controller would."""
    for _ in range(2):
        fleet.apply(1, worker={"minWorkers": 1})
        await fleet.settled()
        fleet.run_pods()
        await fleet.look()
        assert (len(fleet.marked()), len(_needed(fleet))) == (1, 2)
        fleet.server.request("DELETE", f"{GROUP}/{fleet.namespace}/campaigns/{SPRING}")
        await fleet.look(2)
        for path in [*_needed(fleet), *(fleet.path(name) for name in fleet.pod_names())]:
            fleet.server.request("DELETE", path)
        for item in fleet.sessions():
            path = f"{GROUP}/{fleet.namespace}/callsessions/{item['metadata']['name']}"
            fleet.server.request("DELETE", path)
            fleet.server.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
        await fleet.look()
        assert _needed(fleet) == []


async def test_access_that_somebody_took_away_is_given_again(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1})
    await fleet.settled()
    (account,) = _needed(fleet)
    fleet.server.request("DELETE", account)
    fleet.server.request("DELETE", fleet.path(fleet.pod_names()[0]))
    await fleet.look_at_pools()
    assert fleet.pod_names() == []  # refused: there is no such service account
    await fleet.look_at_pools()
    assert len(fleet.pod_names()) == 1


def _needed(fleet: Fleet) -> list[str]:
    """Paths of the workers' service account and of what keeps them from evictions, if they are there."""
    kinds = ("/api/v1", "serviceaccounts"), ("/apis/policy/v1", "poddisruptionbudgets")
    found = []
    for group, plural in kinds:
        path = f"{group}/namespaces/{fleet.namespace}/{plural}"
        items = fleet.server.request("GET", path)["items"]
        found += [f"{path}/{item['metadata']['name']}" for item in items if item["metadata"]["name"] != "default"]
    return found


@pytest.mark.parametrize("data", [{"DATABASE_URL": "postgresql://"}, {"accountSid": "AC0", "authToken": "made-up"}])
async def test_no_secret_but_a_proven_carriers_is_mounted_into_a_worker(fleet: Fleet, data: dict[str, str]) -> None:
    secret = {"metadata": {"name": "payroll"}, "stringData": data}
    fleet.server.request("POST", f"/api/v1/namespaces/{fleet.namespace}/secrets", secret)
    fleet.apply(1, worker={"minWorkers": 1}, carrierRef={"name": "payroll"})
    await fleet.settled()
    await fleet.look(2)
    assert fleet.pods() == []  # nobody has looked at the Secret yet
    await fleet.parts.context.carriers.look(Source(fleet.namespace, "payroll"))
    await fleet.look(2)
    assert fleet.condition("CarrierReady")[0] == "False"
    status, reason, message = fleet.condition("WorkersAvailable")
    assert (status, reason) == ("False", "CarrierNotReady")
    assert message.startswith("no worker is started: Secret payroll: ")
    assert fleet.pods() == []


@pytest.mark.parametrize("most", [1, 2])
async def test_workers_stay_while_a_new_leader_has_not_looked_at_their_carrier(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """An upgrade restarts the operator and renames the pools: warm workers go when new ones are ready, no earlier."""
    carriers = fleet.parts.context.carriers
    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": most, "image": "worker:1"})
    await fleet.settled()
    fleet.run_pods()
    (warm,) = fleet.pod_names()
    with monkeypatch.context() as restarted:
        restarted.setattr(carriers, "of", lambda _: None)
        fleet.change(worker={"minWorkers": 1, "maxWorkers": most, "image": "worker:2"})
        for _ in range(2):
            await fleet.look(2)
            assert fleet.pod_names() == [warm]
            fleet.ahead += COOL_DOWN
    await fleet.look(3)
    assert len(fleet.pod_names()) == most  # where there may be one, it has a call by now
