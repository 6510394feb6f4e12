"""Carrier accounts in Secrets: proven at the carrier, put in force once, taken over by nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.simulator_application import ACCOUNT, TOKEN

from callfleet.checkout import sample
from callfleet_core.carriers import CarrierAccount, CarrierRegister, Source
from callfleet_core.errors import CarrierError
from callfleet_operator.carriers import Carriers
from callfleet_operator.kube import Kube
from callfleet_operator.objects import Campaign
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import Behaviour, People, Person
from callfleet_simulator.server import Running, running

SALES = Source("default", "twilio-main")


@dataclass
class Desk:
    """An operator's carriers over a real API server, PostgreSQL and a simulated carrier."""

    server: ApiServer
    engine: AsyncEngine
    simulator: Running
    kube: Kube

    def carriers(self) -> Carriers:
        """As after a start of the operator."""
        own = CarrierAccount(
            "AC" + "9" * 32, SecretStr("own"), self.simulator.url, "http://gateway:8080", simulated=True
        )
        return Carriers(self.kube, CarrierRegister(self.engine), own, ("default", "callfleet-carriers"))

    def secret(self, source: Source = SALES, **changes: str) -> None:
        """Puts a Secret; the usual one unless changed."""
        values = {"accountSid": ACCOUNT, "authToken": TOKEN, "apiBaseURL": self.simulator.url, **changes}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items() if value}
        self.remove(source)
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": source.name}, "data": data}
        self.server.request("POST", f"/api/v1/namespaces/{source.namespace}/secrets", body)

    def remove(self, source: Source = SALES) -> None:
        """Deletes the Secret, if it is there."""
        path = f"/api/v1/namespaces/{source.namespace}/secrets"
        if any(item["metadata"]["name"] == source.name for item in self.server.request("GET", path)["items"]):
            self.server.request("DELETE", f"{path}/{source.name}")

    def told_to_the_gateway(self) -> dict[str, Any]:
        """What the gateway would read."""
        found = self.server.request("GET", "/api/v1/namespaces/default/secrets/callfleet-carriers")
        return {sid: json.loads(base64.b64decode(value)) for sid, value in found["data"].items()}

    async def row(self) -> dict[str, Any]:
        """The account's row."""
        async with self.engine.connect() as connection:
            found = await connection.execute(
                text(
                    "SELECT simulated, calls_per_second, max_concurrent, public_url, source_namespace, source_name"
                    " FROM carrier_accounts WHERE account_sid = :sid"
                ),
                {"sid": ACCOUNT},
            )
            return dict(found.mappings().one())


@pytest.fixture
async def desk(server: ApiServer, engine: AsyncEngine) -> AsyncIterator[Desk]:
    kube = await Kube.connect(server.kubeconfig)
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))  # the register keeps its rows
        await connection.execute(text("DELETE FROM carrier_accounts WHERE account_sid = :sid"), {"sid": ACCOUNT})
    async with running(
        Carrier(
            CarrierConfig(ACCOUNT, TOKEN),
            People(people={"+15550100100": Person(name="Nobody", behaviour=Behaviour.NO_ANSWER)}),
        )
    ) as simulator:
        yield Desk(server, engine, simulator, kube)
    await kube.close()


def campaign(*numbers: str) -> Campaign:
    documents = yaml.safe_load_all(sample("demo-campaign.yaml").read_text())
    body = next(item for item in documents if item["kind"] == "Campaign")
    body["metadata"] |= {"namespace": "default", "uid": "u", "resourceVersion": "1", "generation": 1}
    body["metadata"]["creationTimestamp"] = "2026-11-22T09:00:00Z"
    body["spec"] |= {"carrierRef": {"name": "twilio-main"}}
    body["spec"]["call"] |= {"from": list(numbers)}
    return Campaign.of(body)


async def test_a_secret_is_waited_for_then_proven_and_put_in_force(desk: Desk) -> None:
    carriers, asking = desk.carriers(), campaign("+15550100001")
    desk.remove()
    assert carriers.of(asking) is None
    assert await carriers.look(SALES)
    assert "twilio-main is not there: create it" in str(carriers.of(asking))
    desk.secret(callsPerSecond="2.5", maxConcurrent="3")
    assert await carriers.look(SALES)
    account = carriers.of(asking)
    assert isinstance(account, CarrierAccount)
    assert account.account_sid == ACCOUNT
    row = await desk.row()
    assert (row["simulated"], float(row["calls_per_second"]), row["max_concurrent"]) == (True, 2.5, 3)
    assert (row["source_namespace"], row["source_name"]) == ("default", "twilio-main")
    assert desk.told_to_the_gateway()[ACCOUNT] == {"authToken": TOKEN, "publicURL": "http://gateway:8080"}
    assert not await carriers.look(SALES)  # nothing new
    await carriers.close()


async def test_what_the_carrier_refuses_is_never_put_in_force(desk: Desk) -> None:
    carriers = desk.carriers()
    desk.secret(authToken="wrong")
    await carriers.look(SALES)
    told = str(carriers.of(campaign("+15550100001")))
    assert "the carrier refuses these credentials" in told
    assert "wrong" not in told
    assert await CarrierRegister(desk.engine).source(ACCOUNT) is None
    with pytest.raises(CarrierError):
        await carriers.client(ACCOUNT)
    await carriers.close()


async def test_calls_go_on_with_what_was_proven_while_the_secret_is_broken(desk: Desk) -> None:
    carriers = desk.carriers()
    desk.secret()
    await carriers.look(SALES)
    desk.secret(authToken="wrong")
    assert await carriers.look(SALES)
    assert isinstance(carriers.of(campaign("+15550100001")), str)  # no new calls
    assert await (await carriers.client(ACCOUNT)).fetch("CA" + "0" * 32) is None  # live ones are looked after
    assert desk.told_to_the_gateway()[ACCOUNT]["authToken"] == TOKEN
    await carriers.close()


async def test_another_secret_joins_an_account_only_with_its_token(desk: Desk) -> None:
    carriers, other = desk.carriers(), Source("default", "twilio-other")
    desk.secret(callsPerSecond="2")
    await carriers.look(SALES)
    desk.secret(other, callsPerSecond="9", publicURL="http://elsewhere:1")
    await carriers.look(other)
    assert (await desk.row())["public_url"] == "http://gateway:8080"
    desk.secret(other, callsPerSecond="9")
    await carriers.look(other)
    assert float((await desk.row())["calls_per_second"]) == 2  # the account's pace is its first Secret's
    desk.remove(SALES)
    await carriers.look(SALES)
    desk.secret(other, callsPerSecond="5")
    await carriers.look(other)
    assert float((await desk.row())["calls_per_second"]) == 5  # the first one is gone
    desk.remove(other)
    await carriers.close()


async def test_a_new_operator_finds_the_credentials_of_open_calls(desk: Desk) -> None:
    first = desk.carriers()
    desk.secret()
    await first.look(SALES)
    await first.close()
    second = desk.carriers()
    assert await (await second.client(ACCOUNT)).fetch("CA" + "0" * 32) is None
    await second.close()


async def test_a_number_that_the_account_does_not_list_is_named_by_its_place(desk: Desk) -> None:
    carriers = desk.carriers()
    desk.secret(numbers="+15550100001")
    await carriers.look(SALES)
    assert isinstance(carriers.of(campaign("+15550100001")), CarrierAccount)
    told = str(carriers.of(campaign("+15550100001", "+15550100002")))
    assert "spec.call.from[1]" in told
    assert "15550100002" not in told
    await carriers.close()
