"""Secrets of the installation that are changed reach the workers of other namespaces; a real API server."""

from __future__ import annotations

import base64
from typing import Any

from tests.integration.fleet_parts import MERGE, Fleet

from callfleet_operator.reconcile import logins


async def test_a_changed_login_reaches_warm_workers(fleet: Fleet) -> None:
    fleet.apply(1, worker={"minWorkers": 1, "maxWorkers": 2})
    await logins.look(fleet.parts.context)
    await fleet.settled()
    fleet.run_pods()
    (before,) = fleet.pod_names()

    def change(secret: str, value: bytes) -> dict[str, str]:
        data = {"login": base64.b64encode(value).decode()}
        fleet.server.request("PATCH", f"/api/v1/namespaces/default/secrets/{secret}", {"data": data}, MERGE)
        return data

    def copy(secret: str) -> Any:
        return fleet.server.request("GET", f"/api/v1/namespaces/{fleet.namespace}/secrets/{secret}").get("data")

    carrier = change("callfleet-installation-carrier", b"a new token")
    await logins.reconcile(fleet.parts.context)
    await fleet.look(2)
    assert copy("callfleet-installation-carrier") == carrier  # a volume: the worker that runs reads it
    assert fleet.pod_names() == [before]
    database = change("callfleet-worker", b"a new password")
    await logins.reconcile(fleet.parts.context)
    await fleet.look(2)
    assert copy("callfleet-worker") == database
    assert len(fleet.pod_names()) == 2
    fleet.run_pods()
    await fleet.look(2)
    assert fleet.status()["workers"] == {"ready": 1, "draining": 1, "slotsFree": 1}  # the earlier one has a call
