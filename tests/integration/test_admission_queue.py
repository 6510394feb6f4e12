"""Who is admitted and who waits, by the real operator on a real API server; and `callfleet explain` of both."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import CONSENT, number
from tests.integration.operator_parts import GROUP, Operator, campaign_body, operator, session_body

from callfleet_core.donotcall import DoNotCallList
from callfleet_core.ledger import GRANT_EXPIRES_AFTER_S
from callfleet_operator.context import STALE_FOR
from callfleet_operator.manifests import pool_name
from callfleet_operator.objects import Meta, Session, parse_time
from callfleet_operator.plan.pace import AHEAD
from callfleet_operator.reconcile import admission, attempts, installation, witness

SLOTS = 4
MERGE = "application/merge-patch+json"


@pytest.fixture
async def running(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Operator]:
    async with operator(engine, server) as running:
        await witness.begin(running.context)
        await installation.reconcile(running.context)
        yield running


@pytest.fixture
def namespace(server: ApiServer) -> str:
    name = f"sales-{uuid4().hex[:8]}"
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


def body(namespace: str, name: str, first: int, people: int = 10, **spec: Any) -> dict[str, Any]:
    """A campaign of as many people, from the number at `first` on; all share one pool."""
    consent = {"kind": CONSENT.kind, "source": CONSENT.source, "time": CONSENT.given_at.isoformat()}
    inline = [{"phone": number(first + index), "consent": consent} for index in range(people)]
    return campaign_body(namespace, name, contacts={"inline": inline}, worker={"slotsPerWorker": SLOTS}, **spec)


async def ready_pod(running: Operator, namespace: str, place: int = 0) -> None:
    """A worker with free slots, as a kubelet would show it; no node is needed to give slots away."""
    campaign = next(item for item in running.context.store.campaigns() if item.meta.namespace == namespace)
    pool, base = pool_name(campaign.spec, running.context.pool_defaults), f"/api/v1/namespaces/{namespace}"
    if not place:
        running.server.request("POST", f"{base}/serviceaccounts", {"metadata": {"name": "default"}})
    meta = {"name": f"{pool}-{place}", "labels": {"callfleet.dev/pool": pool}}
    spec = {"automountServiceAccountToken": False, "containers": [{"name": "worker", "image": "worker"}]}
    running.server.request("POST", f"{base}/pods", {"metadata": meta, "spec": spec})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    running.server.request("PATCH", f"{base}/pods/{pool}-{place}/status", {"status": status}, MERGE)
    await running.see()


async def cycle(running: Operator, namespace: str) -> list[Session]:
    """One admission cycle; the sessions as the API server has them then, in their contacts' order."""
    await admission.reconcile(running.context)
    await running.see()
    return sorted(running.context.store.sessions(namespace), key=lambda item: item.position)


async def begin(running: Operator, namespace: str, *bodies: dict[str, Any]) -> None:
    for each in bodies:
        running.apply(each)
    for each in bodies:
        for _ in range(2):
            await running.reconcile(namespace, each["metadata"]["name"])


def callfleet(server: ApiServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as somebody with a kubeconfig runs it: without a database."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    argv = [sys.executable, "-m", "callfleet", "explain", *arguments]
    environment = {**kept, "KUBECONFIG": str(server.kubeconfig)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def explained(server: ApiServer, *arguments: str) -> dict[str, Any]:
    done = await asyncio.to_thread(callfleet, server, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert number(0)[:8] not in done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_slots_are_shared_by_weight_and_the_others_know_their_place(
    running: Operator, server: ApiServer, namespace: str
) -> None:
    await begin(running, namespace, body(namespace, "heavy", 0, weight=30), body(namespace, "light", 100, weight=10))
    await ready_pod(running, namespace)
    sessions = await cycle(running, namespace)
    admitted = Counter(item.spec.campaign for item in sessions if item.state == "Admitted")
    assert admitted == {"heavy": 3, "light": 1}
    waiting = [item for item in sessions if item.state == "Pending"]
    assert {item.status["reason"] for item in waiting} == {"NoCapacity"}

    light = [item.meta.name for item in waiting if item.spec.campaign == "light"]
    found = [await explained(server, name, "-n", namespace) for name in light[:2]]
    assert [(item["reason"], item["line"]["for_what"]) for item in found] == [("NoCapacity", "a worker's slot")] * 2
    # Three of the heavy one's calls are due before each of the light one's.
    assert [item["line"]["place"] for item in found] == [4, 8]
    assert [(item["campaign"], item["sessions"]) for item in found[1]["line"]["ahead"]] == [("heavy", 6), ("light", 1)]
    shown = await asyncio.to_thread(callfleet, server, light[0], "-n", namespace)
    assert "in line for a worker's slot: place 4\n    3 of campaign heavy (priority 0) come before it" in shown.stdout
    queue = await explained(server, "campaign/light", "-n", namespace)
    assert (queue["weight"], queue["priority"], queue["calls"], queue["pending"]) == (10, 0, 1, 9)
    assert [(item["reason"], item["count"]) for item in queue["waiting"]] == [("NoCapacity", 9)]

    await ready_pod(running, namespace, 1)  # and so it is: four slots more reach as far as the fourth place
    after = {item.meta.name: item.state for item in await cycle(running, namespace)}
    assert [after[name] for name in light[:2]] == ["Admitted", "Pending"]


async def test_a_campaigns_own_pace_admits_what_it_dials_soon_and_tells_the_others_when(
    running: Operator, server: ApiServer, namespace: str
) -> None:
    await begin(running, namespace, body(namespace, "slow", 0, pacing={"callsPerSecond": "0.25"}))
    await ready_pod(running, namespace)
    sessions = await cycle(running, namespace)
    assert [item.state for item in sessions[:3]] == ["Admitted", "Admitted", "Pending"]
    assert {item.status["reason"] for item in sessions[2:]} == {"Pacing"}
    times = [parse_time(item.status["retryAt"]) for item in sessions[2:]]
    gaps = {(later - earlier).total_seconds() for earlier, later in pairwise(times)}
    assert gaps == {4.0}
    assert times[0] > datetime.now(UTC) + AHEAD - timedelta(seconds=4)
    versions = [item.meta.resource_version for item in sessions[3:]]
    again = await cycle(running, namespace)
    assert [item.meta.resource_version for item in again[3:]] == versions  # an expected time is not written anew

    found = await explained(server, sessions[4].meta.name, "-n", namespace)
    assert (found["reason"], found["line"]["for_what"]) == ("Pacing", "the campaign's own pace")
    assert (found["line"]["place"], found["retry_at"][:19]) == (3, times[2].isoformat()[:19])


async def test_who_is_in_line_is_not_written_to_because_the_line_has_two_names(
    running: Operator, namespace: str
) -> None:
    await begin(running, namespace, body(namespace, "full", 0, pacing={"maxConcurrent": SLOTS}))
    await ready_pod(running, namespace)
    born = {item.meta.name: item.meta.resource_version for item in running.context.store.sessions(namespace)}
    sessions = await cycle(running, namespace)
    assert [item.state for item in sessions] == ["Admitted"] * SLOTS + ["Pending"] * (10 - SLOTS)
    in_line = sessions[SLOTS:]
    # Neither a slot nor a turn among the campaign's calls is free: what they were born with is true.
    assert {item.status["reason"] for item in in_line} == {"NoCapacity"}
    assert {item.meta.name: item.meta.resource_version for item in in_line}.items() <= born.items()

    await ready_pod(running, namespace, 1)  # slots, but no turn: this they are told
    after = (await cycle(running, namespace))[SLOTS:]
    assert {item.status["reason"] for item in after} == {"Pacing"}


async def test_who_waits_for_something_of_its_own_stands_in_no_line(
    running: Operator, server: ApiServer, namespace: str
) -> None:
    without_consent = body(namespace, "asked-nobody", 0, people=1)
    del without_consent["spec"]["contacts"]["inline"][0]["consent"]
    await begin(running, namespace, without_consent)
    (session,) = await cycle(running, namespace)
    found = await explained(server, session.meta.name, "-n", namespace)
    assert (found["reason"], found["line"]) == ("NoConsent", None)
    assert "consent" in found["advice"]


async def test_money_that_is_held_is_explained_with_the_budget_that_lacks_it(
    running: Operator, server: ApiServer, namespace: str
) -> None:
    await begin(running, namespace, body(namespace, "spring", 0, people=3, limits={"total": "0.20"}))
    await ready_pod(running, namespace)
    sessions = await cycle(running, namespace)
    await running.reconcile(namespace, "spring")
    held = [item for item in sessions if item.status.get("reason") == "BudgetHeld"]
    assert [item.state for item in sessions] == ["Admitted", "Admitted", "Pending"]
    found = await explained(server, held[0].meta.name, "-n", namespace)
    assert found["line"]["for_what"] == "held money to come back"
    assert found["line"]["place"] == 1
    assert found["shortfall"] == held[0].status["shortfall"]
    assert found["short"] == ["Campaign spring"]
    (window,) = found["windows"]
    assert (window["kind"], window["limit"], window["spent"]) == ("Total", "0.20", "0.00")
    told = await asyncio.to_thread(callfleet, server, held[0].meta.name, "-n", namespace)
    assert f"  missing: {found['shortfall']} USD, of Campaign spring\n" in told.stdout
    assert f"  Campaign spring, Total: 0.00 spent, {window['held']} held of 0.20 USD\n" in told.stdout


async def test_what_is_not_there_is_said(server: ApiServer, namespace: str) -> None:
    done = await asyncio.to_thread(callfleet, server, "nobody", "-n", namespace)
    assert (done.returncode, done.stdout) == (1, "")
    assert "callfleet: there is no CallSession nobody in namespace" in done.stderr


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"weight": 0}, "greater than or equal to 1"),
        ({"weight": 101}, "less than or equal to 100"),
        ({"pacing": {"callsPerSecond": "0"}}, "must be above 0 and at most 100"),
        ({"pacing": {"callsPerSecond": "0.000"}}, "must be above 0 and at most 100"),
        ({"pacing": {"callsPerSecond": "100.001"}}, "must be above 0 and at most 100"),
        ({"pacing": {"callsPerSecond": "0.0001"}}, "should match"),
        ({"pacing": {"callsPerSecond": 0.5}}, "must be of type string"),
    ],
)
def test_a_wrong_weight_or_pace_is_refused_with_what_is_right(
    server: ApiServer, namespace: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.request(
            "POST",
            f"/apis/callfleet.dev/v1alpha1/namespaces/{namespace}/campaigns",
            body(namespace, "wrong", 0, people=1, **spec),
        )
    assert words in json.loads(refused.value.read())["message"]


async def test_a_bind_that_changed_nothing_is_made_again(
    running: Operator, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(running, namespace, body(namespace, "spring", 0, people=1))
    await ready_pod(running, namespace)
    write = running.context.kube.write_status

    async def broken(kind: str, meta: Meta, status: dict[str, Any]) -> dict[str, Any]:
        if meta.namespace == namespace:
            raise TimeoutError
        return await write(kind, meta, status)  # other tests' sessions

    monkeypatch.setattr(running.context.kube, "write_status", broken)
    (session,) = await cycle(running, namespace)
    version = session.meta.resource_version
    monkeypatch.setattr(running.context.kube, "write_status", write)
    (session,) = await cycle(running, namespace)
    assert (session.state, session.meta.resource_version) == ("Pending", version)  # a watch may still bring the bind
    running.context.now = lambda: datetime.now(UTC) + STALE_FOR
    (session,) = await cycle(running, namespace)
    assert (session.state, session.status["attempt"]["number"]) == ("Admitted", 1)


async def test_a_clock_that_is_ahead_of_postgresqls_takes_no_grant_back(running: Operator, namespace: str) -> None:
    await begin(running, namespace, body(namespace, "spring", 0, people=1))
    await ready_pod(running, namespace)
    running.context.now = lambda: datetime.now(UTC) + timedelta(seconds=GRANT_EXPIRES_AFTER_S + 60)
    (one,) = await cycle(running, namespace)
    assert one.state == "Admitted"
    await attempts.reconcile(running.context)
    mine = [item for item in await running.context.ledger.unsettled_attempts() if item.namespace == namespace]
    assert [item.state for item in mine] == ["granted"]


async def test_people_who_may_not_be_called_keep_nobody_behind_them_from_a_session(
    running: Operator, namespace: str
) -> None:
    spring = body(namespace, "spring", 0, people=4, lookAhead=2)
    del spring["spec"]["contacts"]["inline"][0]["consent"]
    book = DoNotCallList(running.context.engine, running.context.subjects)
    await book.put(namespace, number(1), actor="ada", reason="a letter")
    await begin(running, namespace, spring)
    sessions = await cycle(running, namespace)
    assert [item.status["reason"] for item in sessions] == ["NoConsent", "DoNotCall"]
    await running.reconcile(namespace, "spring")
    assert [item.status["reason"] for item in await cycle(running, namespace)][2:] == ["NoCapacity", "NoCapacity"]


async def test_a_session_that_no_campaign_has_called_says_why(
    running: Operator, server: ApiServer, namespace: str
) -> None:
    await begin(running, namespace, body(namespace, "spring", 0, people=1))
    (made,) = await cycle(running, namespace)
    spec = {"campaign": "spring", "runID": "1", "contactID": made.spec.contact_id, "currency": "USD"}
    for name, wrong in {"misspelt": {"campaign": "sprng"}, "late": {"runID": "0"}, "right": {}}.items():
        server.request("POST", f"{GROUP}/{namespace}/callsessions", session_body(name, **(spec | wrong)))
    await running.tend_sessions(namespace)
    first = {item.meta.name: item for item in await cycle(running, namespace)}
    said = {name: (item.status["reason"], _admitted(item)) for name, item in first.items()}
    assert said["misspelt"] == ("Suspended", "there is no Campaign sprng in this namespace")
    assert said["late"] == ("Suspended", "the Campaign spring makes its run 1, and this session is of run 0")
    assert said["right"][0] == "NoCapacity"
    again = {item.meta.name: item for item in await cycle(running, namespace)}
    assert again == first  # written once

    await begin(running, namespace, body(namespace, "sprng", 0, people=1, suspend=True))
    found = {item.meta.name: item for item in await cycle(running, namespace)}
    assert (found["misspelt"].status["reason"], _admitted(found["misspelt"])) == ("Suspended", "")


def _admitted(session: Session) -> str:
    """What the condition Admitted says."""
    return next(str(item["message"]) for item in session.status["conditions"] if item["type"] == "Admitted")
