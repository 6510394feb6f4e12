"""How calls are ended by us: a canceled call, and a deleted Campaign that hangs up or drains; and reasons to wait."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.world import World

WILLING, OTHER, THIRD, BUSY = "+15550100103", "+15550100105", "+15550100106", "+15550100102"


def _live(world: World, phone: str, **spec: Any) -> None:
    """A campaign with one willing person, whose call is live."""
    world.apply(world.budget("0.22"), world.campaign([phone], **spec))
    world.until(
        lambda: world.sessions() and world.sessions()[0].get("status", {}).get("state") == "InProgress", "talk", 120
    )


def _settled(world: World) -> dict[str, Any] | None:
    attempts = [item for item in world.attempts() if item["state"] != "revoked"]
    return attempts[0] if attempts and attempts[0]["state"] == "settled" else None


@pytest.mark.timeout(300)
def test_a_live_call_is_canceled_at_the_carrier_and_settled(world: World) -> None:
    _live(world, WILLING)
    world.patch_session(0, {"spec": {"cancel": True}})
    world.until(lambda: world.states() == ["Canceled"], "the cancellation", 60)
    attempt = world.until(lambda: _settled(world), "the settlement", 30)
    assert attempt["cancel_requested_at"] is not None
    assert attempt["actual_micros"] == 18_000  # one started minute
    assert [call["status"] for call in world.carrier_calls(WILLING)] == ["completed"]
    assert world.budget_balance()["held_micros"] == 0


@pytest.mark.timeout(300)
def test_a_deleted_campaign_that_hangs_up_ends_its_live_call_first(world: World) -> None:
    _live(world, OTHER, deletionPolicy="HangUp")
    world.installation.kubectl(
        "delete", "campaign", "spring-leads", "-n", world.namespace, "--timeout=60s", timeout_s=70
    )
    attempt = _settled(world)
    assert attempt is not None
    assert attempt["duration_s"] < 60
    world.until(lambda: not world.sessions(), "the sessions to go", 30)


@pytest.mark.timeout(400)
def test_a_deleted_campaign_drains_its_live_call_lasts(world: World) -> None:
    _live(world, THIRD, questions=3)
    world.installation.kubectl(
        "delete", "campaign", "spring-leads", "-n", world.namespace, "--timeout=150s", timeout_s=160
    )
    attempt = _settled(world)
    assert attempt is not None
    assert attempt["cancel_requested_at"] is None
    (call,) = world.rows("SELECT * FROM calls WHERE id = %(id)s", id=attempt["id"])
    assert call["status"] == "completed"
    assert call["turns"] >= 3


@pytest.mark.timeout(300)
def test_a_busy_person_is_tried_again_later(world: World) -> None:
    world.apply(world.budget("0.22"), world.campaign([BUSY], attempts={"max": 2}))
    world.until(lambda: world.states() == ["RetryScheduled"], "a retry", 120)
    (session,) = world.sessions()
    assert session["status"]["retryAt"]
    assert world.budget_balance()["held_micros"] == 0


def test_a_call_above_its_own_limit_waits(world: World) -> None:
    world.apply(world.budget("1.00"), world.campaign([BUSY], limits={"perCall": "0.03"}))
    world.until(lambda: world.states() == ["PerCallLimit"], "the limit to be named", 30)
    assert world.sessions()[0]["status"]["shortfall"] == "0.006"


def test_a_budget_in_another_currency_is_never_converted(world: World) -> None:
    euros = world.budget("1.00")
    euros["spec"]["currency"] = "EUR"
    world.apply(euros, world.campaign([BUSY]))
    world.until(lambda: world.states() == ["CurrencyMismatch"], "the currencies to be compared", 30)
    assert world.attempts() == []  # nothing was held, and nobody called
