"""The operator killed between hold and bind: the books are right, and a late bind dials nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.world import World

from callfleet.installation.install import wait_until_ready

BUSY = "+15550100107"
HOLD_MICROS = 36_000


@pytest.fixture
def paused(world: World) -> Iterator[World]:
    """The operator pauses after each hold, until the test ends."""
    _set_pause(world, "after-hold")
    yield world
    _set_pause(world, "")


def _set_pause(world: World, point: str) -> None:
    release = world.installation.namespace
    world.installation.kubectl(
        "set", "env", "-n", release, "deploy/callfleet-operator", "-c", "operator", f"CALLFLEET_TEST_PAUSE={point}"
    )
    world.installation.kubectl(
        "rollout", "status", "-n", release, "deploy/callfleet-operator", "--timeout=120s", timeout_s=130
    )
    wait_until_ready(world.installation)


@pytest.mark.timeout(600)
def test_killed_between_hold_and_bind(paused: World) -> None:
    world = paused
    world.apply(world.budget("0.22"), world.campaign([BUSY]))
    first = world.until(lambda: _granted(world), "a hold that is not bound", 180)
    assert world.budget_balance()["held_micros"] == HOLD_MICROS
    world.kill_operator()
    second = world.until(lambda: _granted(world, but=first["id"]), "a new hold after the restart", 120)
    revoked = next(item for item in world.attempts() if item["id"] == first["id"])
    assert (revoked["state"], revoked["reason"]) == ("revoked", "NewEpoch")
    assert second["epoch"] > first["epoch"]
    assert world.budget_balance()["held_micros"] == HOLD_MICROS  # one hold, not two
    assert world.carrier_calls(BUSY) == []
    _bind_late(world, first)
    _set_pause(world, "")
    world.until(lambda: world.states() == ["Completed"], "the call, after all", 120)
    assert len(world.carrier_calls(BUSY)) == 1
    balance = world.budget_balance()
    assert (balance["held_micros"], balance["spent_micros"]) == (0, 0)


def _granted(world: World, but: object = None) -> dict[str, Any] | None:
    return next((item for item in world.attempts() if item["state"] == "granted" and item["id"] != but), None)


def _bind_late(world: World, attempt: dict[str, Any]) -> None:
    """Writes the bind that the killed operator would have written, and sees that the worker does not dial."""
    (pod,) = world.installation.objects("pods", world.namespace)
    (session,) = world.sessions()
    status = {
        "state": "Admitted",
        "reason": None,
        "worker": pod["metadata"]["name"],
        "podUID": pod["metadata"]["uid"],
        "attempt": {"id": str(attempt["id"]), "number": 1, "held": "0.036"},
    }
    world.installation.kubectl(
        "patch", "callsession", session["metadata"]["name"], "-n", world.namespace, "--subresource=status",
        "--type=merge", "-p", json.dumps({"status": status}),
    )  # fmt: skip
    name = pod["metadata"]["name"]
    world.until(
        lambda: str(attempt["id"]) in world.installation.kubectl("logs", "-n", world.namespace, name),
        "the worker's word on the late bind",
        30,
    )
    assert world.carrier_calls(BUSY) == []
