"""A campaign that calls with its namespace's own carrier account."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.world import OWN_ACCOUNT, World

PERSON = "+15550100108"


@pytest.mark.timeout(300)
def test_a_campaign_waits_for_its_carrier_and_then_calls_with_it(world: World) -> None:
    world.apply(world.budget("0.22"), world.campaign([PERSON], questions=2, carrierRef={"name": "twilio-main"}))
    world.until(lambda: world.states() == ["CarrierNotReady"], "the missing Secret to be named", 30)
    (campaign,) = world.installation.objects("campaigns", world.namespace)
    assert "twilio-main is not there: create it" in campaign["status"]["summary"]
    world.apply(_secret(world))
    world.until(lambda: world.states() == ["Completed"], "the call", 240)
    waited = world.installation.kubectl(
        "wait", "campaign/spring-leads", "-n", world.namespace, "--for=condition=Finished", "--timeout=30s"
    )
    assert "condition met" in waited
    (attempt,) = [item for item in world.attempts() if item["state"] != "revoked"]
    assert (attempt["account_sid"], attempt["end_status"]) == (OWN_ACCOUNT[0], "completed")
    assert [call["status"] for call in world.carrier_calls(PERSON, OWN_ACCOUNT)] == ["completed"]
    assert world.carrier_calls(PERSON) == []  # nothing on the installation's account
    copied = {item["metadata"]["name"] for item in world.installation.objects("secrets", world.namespace)}
    assert "callfleet-installation-carrier" not in copied


def _secret(world: World) -> dict[str, Any]:
    sid, token = OWN_ACCOUNT
    address = f"http://callfleet-simulator.{world.installation.namespace}.svc.cluster.local:8090"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "twilio-main"},
        "stringData": {"accountSid": sid, "authToken": token, "apiBaseURL": address, "maxConcurrent": "2"},
    }
