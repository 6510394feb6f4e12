"""A deleted Campaign that hangs up, by the real operator on a real API server and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.fleet_parts import SPRING, Fleet
from tests.integration.operator_parts import GROUP

from callfleet_core.errors import CarrierError
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import campaign


class ForgetfulCarrier:
    """Fails the first time that it is told to end a call."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def end(self, sid: str) -> None:
        """Ends a call."""
        self.ended.append(sid)
        if len(self.ended) == 1:
            raise CarrierError("the carrier is busy")


async def test_a_carrier_that_fails_one_call_leaves_nobody_else_talking(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.apply(3, worker={"slotsPerWorker": 3, "maxWorkers": 1}, deletionPolicy="HangUp")
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    calls = {f"CA{(await fleet.begin(status)).hex}" for status in fleet.bound()}
    carrier = ForgetfulCarrier()

    async def client(_account_sid: str) -> Any:
        return carrier

    monkeypatch.setattr(fleet.parts.context.carriers, "client", client)
    fleet.server.request("DELETE", f"{GROUP}/{fleet.namespace}/campaigns/{SPRING}")
    await fleet.parts.see()
    with pytest.raises(CarrierError):  # so that the queue asks again
        await campaign.reconcile(fleet.parts.context, Key("Campaign", fleet.namespace, SPRING))
    assert (len(calls), set(carrier.ended)) == (3, calls)
