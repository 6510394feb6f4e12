"""Contacts in ConfigMaps and Secrets are followed: who left a file is not called; a real API server and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.books import CONSENT, number
from tests.integration.fleet_parts import MERGE, SPRING, Fleet
from tests.integration.operator_parts import campaign_body

from callfleet_operator.reconcile import contacts

KINDS = {"configmaps": "configMapRef", "secrets": "secretRef"}
HEAD = "phone,consent_kind,consent_source,consent_time"


class People:
    """A file of people in a namespace, and a campaign that calls them."""

    def __init__(self, fleet: Fleet, kind: str) -> None:
        self._fleet, self._field = fleet, "stringData" if kind == "secrets" else "data"
        self._path = f"/api/v1/namespaces/{fleet.namespace}/{kind}"
        fleet.server.request("POST", self._path, {"metadata": {"name": "people"}, **self._csv(1, 2)})
        source = {KINDS[kind]: {"name": "people", "key": "people.csv"}}
        worker = {"minWorkers": 1, "slotsPerWorker": 4}
        fleet.parts.apply(campaign_body(fleet.namespace, SPRING, contacts=source, worker=worker))

    def _csv(self, *people: int) -> dict[str, Any]:
        rows = [f"{number(each)},{CONSENT.kind},{CONSENT.source},{CONSENT.given_at.isoformat()}" for each in people]
        return {self._field: {"people.csv": "\n".join([HEAD, *rows])}}

    async def become(self, content: dict[str, Any]) -> None:
        """Another content; looked at as the engine does."""
        self._fleet.server.request("PATCH", f"{self._path}/people", content, MERGE)
        await self.look()

    async def are(self, *people: int) -> None:
        """The file names these."""
        await self.become(self._csv(*people))

    async def are_nonsense(self) -> None:
        """The file is none of people."""
        await self.become({self._field: {"people.csv": "phone\nnobody"}})

    async def go(self) -> None:
        """The file is deleted."""
        self._fleet.server.request("DELETE", f"{self._path}/people")
        await self.look()

    async def look(self) -> None:
        """At the files, then at everything."""
        await contacts.follow_files(self._fleet.parts.context)
        await self._fleet.look(3)


@pytest.fixture(params=sorted(KINDS))
async def people(fleet: Fleet, request: pytest.FixtureRequest) -> People:
    made = People(fleet, request.param)
    await fleet.settled()
    assert len(fleet.sessions()) == 2
    return made


async def test_who_left_the_file_is_not_called_and_who_is_new_is(fleet: Fleet, people: People) -> None:
    first = next(item["spec"]["contactID"] for item in fleet.sessions() if position(item) == 0)
    await people.are(2, 3)
    assert fleet.status()["contacts"]["total"] == 2
    fleet.run_pods()
    await fleet.look(2)
    called = [item["spec"]["contactID"] for item in fleet.sessions() if item["status"]["state"] == "Admitted"]
    assert len(called) == 2
    assert first not in called


def position(session: dict[str, Any]) -> int:
    return int(session["metadata"]["annotations"]["callfleet.dev/position"])


async def test_a_file_that_is_wrong_or_gone_is_told_and_what_was_taken_stays(fleet: Fleet, people: People) -> None:
    await people.are_nonsense()
    assert fleet.condition("ContactsLoaded")[:2] == ("False", "InvalidContacts")
    assert fleet.status()["contacts"]["total"] == 2
    await people.are(1)
    assert fleet.condition("ContactsLoaded")[0] == "True"
    assert fleet.status()["contacts"]["total"] == 1
    await people.go()
    status, _, message = fleet.condition("ContactsLoaded")
    assert status == "False"
    assert "is not there" in message
    assert fleet.status()["contacts"]["total"] == 1


async def test_a_file_that_did_not_change_is_not_read_again(fleet: Fleet, people: People) -> None:
    context = fleet.parts.context
    known = dict(context.loaded_contacts)
    await people.look()
    assert context.loaded_contacts == known
    assert len(known) == 1
    fleet.server.request("DELETE", f"/apis/callfleet.dev/v1alpha1/namespaces/{fleet.namespace}/campaigns/{SPRING}")
    await fleet.look(3)
    await contacts.follow_files(context)
    assert context.loaded_contacts == {}
