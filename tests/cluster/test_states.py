"""States and waiting reasons that no other cluster test reaches, on the real API server (docs/states.md has them all).

Five small campaigns run side by side in one namespace, and a watch writes down every status that their sessions have.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.trails import Trails, watched
from tests.cluster.world import World

from callfleet.installation import Installation

LISTENER, BEHIND, BUSY, UNREACHABLE = "+15550100120", "+15550100121", "+15550100122", "+15550100123"
WANTED, LOST, GATED = "+15550100124", "+15550100125", "+15550100126"
HOLD = "0.036"
WORKER = {"slotsPerWorker": 5, "maxWorkers": 1, "resources": {"limits": {"memory": "4Gi", "nvidia.com/gpu": 1}}}
FINAL = {"Completed", "Failed", "Canceled"}


@dataclass(frozen=True)
class Seen:
    """The namespace after its campaigns have ended, and what was seen on the way."""

    world: World
    trails: Trails


@pytest.fixture(scope="module")
def seen(installation: Installation) -> Iterator[Seen]:
    """Runs the campaigns until every session has ended."""
    world = World(installation, f"t-{secrets.token_hex(4)}")
    world.create()
    try:
        with watched(world) as trails:
            world.fault(kind="serverError", to=LOST)  # the carrier's own error: nothing was placed, and nobody knows
            world.apply(*_documents(world))
            _forget_the_carrier(world)
            world.until(lambda: _all_ended(world), "every session's end", 90)
            yield Seen(world, trails)
    finally:
        world.delete()


def _documents(world: World) -> list[dict[str, Any]]:
    def campaign(name: str, phones: list[str], budget: str = "plenty", **spec: Any) -> dict[str, Any]:
        both = {"worker": WORKER, "pacing": {"maxConcurrent": 2}, "budgetRefs": [{"name": budget}], **spec}
        return world.campaign(phones, name=name, **both)

    return [
        world.budget("5.00", "plenty"),
        world.budget(HOLD, "for-one"),
        campaign("paced", [LISTENER, BEHIND], pacing={"maxConcurrent": 1}),
        campaign("held", [BUSY, UNREACHABLE], budget="for-one"),
        campaign("wants", [WANTED]),
        campaign("wants-too", [WANTED]),
        campaign("lost", [LOST]),
    ]


def _forget_the_carrier(world: World) -> None:
    """Lets the ten minutes pass in which the operator looks for the lost call, by the clocks of its row."""
    world.until(lambda: _struck(world), "the carrier's error", 60)
    query = "SELECT * FROM dial_attempts WHERE namespace = %(namespace)s AND campaign = 'lost'"
    world.change(
        "UPDATE dial_attempts SET begun_at = begun_at - interval '31 s'"
        " WHERE namespace = %(namespace)s AND campaign = 'lost'"
    )
    world.until(lambda: world.rows(query)[0]["lookups_empty"] == 1, "the first empty list", 30)
    world.change(
        "UPDATE dial_attempts SET last_lookup_at = last_lookup_at - interval '10 min'"
        " WHERE namespace = %(namespace)s AND campaign = 'lost'"
    )


def _struck(world: World) -> bool:
    faults = world.installation.simulator_get("/simulator/faults")["faults"]
    return any(fault["kind"] == "serverError" and fault["struck"] for fault in faults)


def _all_ended(world: World) -> bool:
    found = world.installation.objects("callsessions", world.namespace)
    return len(found) == 7 and all(item["status"]["state"] in FINAL for item in found)


def test_an_answered_call_is_seen_in_every_state_of_its_life(seen: Seen) -> None:
    steps = seen.trails.steps("paced")
    assert steps[-4:] == ["Admitted", "Dialing", "InProgress", "Completed"]
    assert steps[0] == "NoCapacity"  # what a session is before anything was decided
    assert {item["state"] for item in seen.trails.statuses("paced")[:1]} == {"Pending"}
    assert seen.trails.statuses("paced")[-1]["result"]["durationSeconds"] == pytest.approx(5, abs=2)


def test_a_session_waits_its_turn(seen: Seen) -> None:
    steps = seen.trails.steps("paced", 1)
    assert "Pacing" in steps
    assert steps[-1] == "Completed"
    assert len(seen.world.carrier_calls(BEHIND)) == 1


def test_money_that_is_held_for_another_call_is_waited_for(seen: Seen) -> None:
    held = seen.trails.first("BudgetHeld", "held", 1)
    assert (held["state"], held["shortfall"]) == ("Pending", HOLD)
    first, second = _attempts(seen.world, "held")
    assert second["granted_at"] >= first["settled_at"]
    row = seen.world.limited("name = 'for-one'")
    assert (row["held_micros"], row["spent_micros"]) == (0, 0)


def test_a_call_that_the_carrier_cannot_deliver_fails(seen: Seen) -> None:
    last = seen.trails.statuses("held", 1)[-1]
    assert (last["state"], last.get("reason")) == ("Failed", None)
    assert (last["result"]["disposition"], last["result"]["settled"]) == ("failed", True)
    assert [call["status"] for call in seen.world.carrier_calls(UNREACHABLE)] == ["failed"]


def test_a_number_has_one_call_at_a_time(seen: Seen) -> None:
    steps = [seen.trails.steps(campaign) for campaign in ("wants", "wants-too")]
    assert sorted("NumberBusy" in each for each in steps) == [False, True]
    assert [each[-1] for each in steps] == ["Completed", "Completed"]
    first, second = sorted(
        (attempt for campaign in ("wants", "wants-too") for attempt in _attempts(seen.world, campaign)),
        key=lambda attempt: attempt["granted_at"],
    )
    assert first["ended_at"] <= second["granted_at"]
    assert len(seen.world.carrier_calls(WANTED)) == 2


def test_a_dial_that_nobody_knows_of_is_never_repeated_and_keeps_its_money(seen: Seen) -> None:
    assert seen.trails.steps("lost")[-3:] == ["Admitted", "Dialing", "DialOutcomeUnknown"]
    last = seen.trails.statuses("lost")[-1]
    assert last["state"] == "Failed"
    assert (last["result"]["disposition"], last["result"]["settled"]) == ("unknown", False)
    (attempt,) = _attempts(seen.world, "lost")
    assert (attempt["state"], attempt["end_status"], attempt["lookups_empty"]) == ("ended", "unresolved", 2)
    assert seen.world.carrier_calls(LOST) == []
    row = seen.world.limited("name = 'plenty'")
    assert row["held_micros"] == attempt["hold_micros"]  # for a day: evidence may still come


@pytest.mark.timeout(120)
def test_a_gate_that_is_shut_keeps_a_session_waiting_and_says_which(seen: Seen) -> None:
    world = seen.world
    campaign = world.campaign([GATED], name="gated", worker=WORKER, budgetRefs=[{"name": "plenty"}])
    try:
        world.change("UPDATE installation SET stopped = true")
        world.apply(campaign)
        world.until(lambda: _reason(world) == "Stopped", "the stop to be named", 30)
        table = world.installation.kubectl("get", "callsessions", "-n", world.namespace)
        assert [line.split()[1:3] for line in table.splitlines() if line.startswith("gated")] == [
            ["Pending", "Stopped"]
        ]
        # A carrier that is not a simulator: it dials only numbers of the allow-list.
        world.change("UPDATE carrier_accounts SET simulated = false")
        world.change("UPDATE installation SET stopped = false")
        world.until(lambda: _reason(world) == "DoNotCall", "the allow-list to be named", 30)
        world.until(lambda: _waiting(world) == [{"reason": "DoNotCall", "count": 1}], "the Campaign to say so", 30)
        assert world.carrier_calls(GATED) == []
    finally:
        world.change("UPDATE installation SET stopped = false")
        world.change("UPDATE carrier_accounts SET simulated = true")
    world.until(lambda: world.session("gated")["status"]["state"] == "Completed", "the call, once it may be made", 60)
    assert len(world.carrier_calls(GATED)) == 1


def _attempts(world: World, campaign: str) -> list[dict[str, Any]]:
    """A campaign's attempts that were not revoked, oldest first."""
    return [item for item in world.attempts() if item["campaign"] == campaign and item["state"] != "revoked"]


def _reason(world: World) -> str | None:
    reason: str | None = world.session("gated")["status"].get("reason")
    return reason


def _waiting(world: World) -> list[dict[str, Any]]:
    found = world.installation.objects("campaigns", world.namespace)
    (gated,) = (item for item in found if item["metadata"]["name"] == "gated")
    waiting: list[dict[str, Any]] = gated["status"]["waiting"]
    return waiting


def test_a_destination_without_a_price_is_not_called(world: World) -> None:
    world.apply(world.budget("1.00"), world.campaign(["+493023125000"]))
    world.until(lambda: world.states() == ["NoPrice"], "the missing price to be named", 30)
    assert world.attempts() == []  # nothing was held, and nobody called


def test_a_model_that_no_server_has_is_waited_for(world: World) -> None:
    busy = "+15550100107"
    agent = world.campaign([busy])["spec"]["agent"]
    world.apply(world.budget("1.00"), world.campaign([busy], agent={**agent, "llm": {"model": "no-such-model:1b"}}))
    world.until(lambda: world.states() == ["ModelNotReady"], "the missing model to be named", 60)
    ready = world.until(lambda: _model_condition(world, "PullFailed"), "the pull to fail", 120)
    assert "no-such-model:1b cannot be pulled" in ready["message"]
    assert world.attempts() == []
    world.apply(world.campaign([busy], agent=agent))
    world.until(lambda: world.attempts(), "a call, once the model is one that is there", 60)


def _model_condition(world: World, reason: str) -> dict[str, Any] | None:
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    found = campaign.get("status", {}).get("conditions", [])
    return next((item for item in found if (item["type"], item["reason"]) == ("ModelReady", reason)), None)
