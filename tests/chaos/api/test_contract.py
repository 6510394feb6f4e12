"""The model of the API server answers as the real one does, in all that the operator asks."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from kubernetes_asyncio import config
from tests.chaos.api.client import ModelClient
from tests.chaos.api.server import ApiModel
from tests.chaos.api.transcript import Asker
from tests.chaos.differences import differences
from tests.integration.apiserver import ApiServer, api_server
from tests.integration.operator_parts import campaign_body

from callfleet_operator import manifests
from callfleet_operator.manifests import PoolDefaults
from callfleet_operator.objects import Meta, format_time
from callfleet_operator.plan.lease import held_spec

_OURS = "/apis/callfleet.dev/v1alpha1"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces"
_DEFAULTS = PoolDefaults("worker", "callfleet-worker", "carrier", "keys", 1, "cpu", "Never")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture
async def real(server: ApiServer) -> AsyncIterator[Asker]:
    """The real server."""
    api = await config.new_client_from_config(config_file=str(server.kubeconfig))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate is a minute old
    headers = {"Authorization": f"Bearer {server.token}"}
    async with aiohttp.ClientSession(
        server.url, connector=aiohttp.TCPConnector(ssl=context), headers=headers
    ) as session:

        async def watch(path: str, since: str) -> AsyncIterator[dict[str, Any]]:
            query = {"watch": "1", "resourceVersion": since, "timeoutSeconds": "8"}
            async with session.get(path, params=query) as answer:
                async for line in answer.content:
                    yield json.loads(line)

        yield Asker(api, watch)
    await api.close()


@pytest.fixture
def model() -> Asker:
    """The model of it."""
    world = ApiModel()

    async def watch(path: str, since: str) -> AsyncIterator[dict[str, Any]]:
        for change in list(world.changes):
            if change.version > int(since) and path.endswith(f"/{change.resource.plural}"):
                yield {"type": change.type, "object": change.body}

    return Asker(ModelClient(world), watch)


def session_body(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    contact = "00000000-0000-0000-0000-000000000001"
    return {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "CallSession",
        "metadata": {"name": name, "namespace": namespace, "labels": {}, "finalizers": ["callfleet.dev/settle"]},
        "spec": {"campaign": "spring", "contactID": contact, **spec},
    }  # fmt: skip


def pod_body(name: str, **spec: Any) -> dict[str, Any]:
    campaign = manifests_campaign()
    body = manifests.worker_pod(name, "pool-1", "00000000-0000-0000-0000-00000000000a", campaign, _DEFAULTS, ["spring"])
    del body["metadata"]["ownerReferences"]
    body["spec"] |= spec
    return body


def manifests_campaign() -> Any:
    from callfleet_core.api.campaign import CampaignSpec

    return CampaignSpec.model_validate(campaign_body("a", "b", contacts={"listRef": {"name": "l"}})["spec"])


async def _since(asker: Asker, path: str) -> str:
    version: str = (await asker.ask("GET", path))["metadata"]["resourceVersion"]
    return version


async def _namespace(asker: Asker, name: str) -> None:
    await asker.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    asker.lines.pop()  # what else is in one is nobody's concern


async def objects_of_ours(asker: Asker) -> None:
    """Created with defaults, pruned, refused, changed, read, listed, deleted."""
    await _namespace(asker, "made")
    for plural, bodies in _bodies("made").items():
        path = f"{_OURS}/namespaces/made/{plural}"
        since = await _since(asker, path)
        for body in bodies:
            await asker.ask("POST", path, body)
        await asker.ask("POST", path, bodies[0])
        name = bodies[0]["metadata"]["name"]
        await asker.ask("GET", f"{path}/{name}")
        await asker.ask("GET", f"{path}/nobody")
        await asker.ask("PATCH", f"{path}/{name}", {"metadata": {"annotations": {"a": "1", "b": "2"}}})
        await asker.ask("PATCH", f"{path}/{name}", {"metadata": {"annotations": {"a": None}}})
        await asker.ask("PATCH", f"{path}/{name}", {"metadata": {"annotations": {"a": None, "b": "2"}}})
        await asker.ask("GET", path)
        await asker.ask("DELETE", f"{path}/{name}")
        await asker.ask("GET", path)
        await asker.events(path, since, 5 if plural == "callsessions" else 4 if len(bodies) == 1 else 5)
    await asker.ask("POST", f"{_OURS}/namespaces/nowhere/budgets", _bodies("nowhere")["budgets"][0])


def _bodies(namespace: str) -> dict[str, list[dict[str, Any]]]:
    consent = {"kind": "express", "source": "form", "time": "2026-01-01T00:00:00Z"}
    contacts = {"inline": [{"phone": "+15550100001", "consent": consent, "colour": "unknown"}]}
    budget = {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget", "metadata": {"name": "us", "namespace": namespace},
        "spec": {"limits": {"total": "5.00", "daily": None}, "unknown": 1},
    }  # fmt: skip
    return {
        "campaigns": [campaign_body(namespace, "spring", contacts=contacts, budgetRefs=[{"name": "us"}])],
        "budgets": [budget],
        "callsessions": [session_body(namespace, "one"), session_body(namespace, "two", maxDurationSeconds=60)],
    }


async def what_does_not_fit(asker: Asker) -> None:
    """Wrong types, values out of bounds, what is missing."""
    await _namespace(asker, "wrong")
    path = f"{_OURS}/namespaces/wrong"
    for change in (
        {"maxDurationSeconds": "60"},
        {"maxDurationSeconds": 5},
        {"contactID": "nobody"},
        {"currency": "usd"},
        {"campaign": ""},
        {"priority": True},
    ):
        await asker.ask("POST", f"{path}/callsessions", session_body("wrong", "one", **change))
    body = session_body("wrong", "one")
    del body["spec"]["campaign"]
    await asker.ask("POST", f"{path}/callsessions", body)
    await asker.ask("POST", f"{path}/budgets", {**_bodies("wrong")["budgets"][0], "spec": {"limits": None}})
    await asker.ask("POST", f"{path}/budgets", {"apiVersion": "callfleet.dev/v1alpha1", "kind": "Budget",
                                                "metadata": {"name": "b"}})  # fmt: skip
    await asker.ask("POST", f"{path}/callsessions", session_body("wrong", "right"))
    wrong: list[dict[str, Any]] = [
        {"state": "Sleeping"},
        {"shortfall": 3},
        {"result": {"settled": "yes"}},
        {"conditions": [{}]},
    ]
    for status in wrong:
        await asker.ask("PATCH", f"{path}/callsessions/right/status", {"status": status})


async def spec_and_status(asker: Asker) -> None:
    """Two doors: neither writes what is the other's; a changed spec alone is a new generation."""
    await _namespace(asker, "doors")
    path = f"{_OURS}/namespaces/doors/callsessions"
    since = await _since(asker, path)
    body = {**session_body("doors", "one"), "status": {"state": "Completed"}}
    await asker.ask("POST", path, body)
    one = f"{path}/one"
    await asker.ask("PATCH", f"{one}/status", {"status": {"state": "Pending", "reason": "NoCapacity", "extra": 1}})
    await asker.ask("PATCH", f"{one}/status", {"status": {"state": "Pending"}, "spec": {"cancel": True}})
    await asker.ask("PATCH", f"{one}/status", {"metadata": {"annotations": {"x": "y"}}, "status": {"worker": "w"}})
    await asker.ask(
        "PATCH", f"{one}/status", {"status": {"reason": None, "result": {"disposition": None, "cost": "1.0"}}}
    )
    await asker.ask("PATCH", one, {"status": {"state": "Failed"}})
    await asker.ask("PATCH", one, {"spec": {"cancel": True}})
    await asker.ask("GET", f"{one}/status")
    conditions = [{"type": "A", "status": "True", "reason": "B", "message": "", "observedGeneration": None,
                   "lastTransitionTime": "2026-01-01T00:00:00Z"}]  # fmt: skip
    await asker.ask("PATCH", f"{one}/status", {"status": {"conditions": conditions}})
    await asker.events(path, since, 6)


async def compare_and_set(asker: Asker) -> None:
    """Versions and UIDs that are no more are refused; deletes, too."""
    await _namespace(asker, "versions")
    path = f"{_OURS}/namespaces/versions/callsessions"
    first = await asker.ask("POST", path, session_body("versions", "one"))
    seen = first["metadata"]["resourceVersion"]
    one, other = f"{path}/one", "11111111-1111-4111-8111-111111111111"
    await asker.ask("PATCH", f"{one}/status", {"metadata": {"resourceVersion": seen}, "status": {"worker": "a"}})
    await asker.ask("PATCH", f"{one}/status", {"metadata": {"resourceVersion": seen}, "status": {"worker": "b"}})
    for meta in ({"uid": other}, {"uid": other, "resourceVersion": seen}):
        await asker.ask("PATCH", one, {"metadata": meta})
        await asker.ask("PATCH", f"{one}/status", {"metadata": meta, "status": {"worker": "c"}})
    await asker.ask("PATCH", f"{path}/none/status", {"metadata": {"resourceVersion": seen}, "status": {"worker": "b"}})
    options = {"apiVersion": "v1", "kind": "DeleteOptions"}
    await asker.ask("DELETE", one, {**options, "preconditions": {"resourceVersion": seen}})
    await asker.ask("DELETE", one, {**options, "preconditions": {"uid": other}})
    await asker.ask("DELETE", f"{path}/none", {**options, "preconditions": {"uid": other}})
    await asker.ask("GET", one)


async def finalizers(asker: Asker) -> None:
    """A deleted object stays until its last finalizer is gone, and takes no new one."""
    await _namespace(asker, "ends")
    path = f"{_OURS}/namespaces/ends/callsessions"
    since = await _since(asker, path)
    await asker.ask("POST", path, session_body("ends", "one"))
    one = f"{path}/one"
    await asker.ask("PATCH", one, {"metadata": {"finalizers": ["callfleet.dev/settle", "callfleet.dev/drain"]}})
    await asker.ask("DELETE", one)
    await asker.ask("DELETE", one)
    await asker.ask("PATCH", one, {"metadata": {"finalizers": ["callfleet.dev/settle", "callfleet.dev/x"]}})
    await asker.ask("PATCH", f"{one}/status", {"status": {"state": "Canceled"}})
    await asker.ask("PATCH", one, {"metadata": {"finalizers": ["callfleet.dev/settle"]}})
    await asker.ask("PATCH", one, {"spec": {"cancel": True}})
    await asker.ask("PATCH", one, {"metadata": {"finalizers": []}})
    await asker.ask("GET", one)
    await asker.ask("POST", path, session_body("ends", "one"))
    await asker.events(path, since, 8)


async def lists(asker: Asker) -> None:
    """In chunks, by label, by field, of all namespaces or of one."""
    for namespace in ("first", "second"):
        await _namespace(asker, namespace)
        for name in ("a", "b"):
            await asker.ask("POST", f"{_OURS}/namespaces/{namespace}/callsessions", session_body(namespace, name))
    await asker.ask("PATCH", f"{_OURS}/namespaces/first/callsessions/b/status", {"status": {"state": "Admitted"}})
    page = await asker.ask("GET", f"{_OURS}/namespaces/first/callsessions", limit="1")
    await asker.ask("POST", f"{_OURS}/namespaces/first/callsessions", session_body("first", "c"))
    await asker.ask(
        "GET", f"{_OURS}/namespaces/first/callsessions", limit="1", **{"continue": page["metadata"]["continue"]}
    )
    await asker.ask("GET", f"{_OURS}/namespaces/first/callsessions", fieldSelector="status.state=Admitted")
    await asker.ask("GET", f"{_OURS}/namespaces/second/callsessions", labelSelector="nothing")


async def pods(asker: Asker) -> None:
    """Made with the operator's own manifest, marked, ended: at once without a node, with time to finish on one."""
    await _namespace(asker, "pods")
    path = "/api/v1/namespaces/pods"
    kube = asker.kube
    await asker.tell("early", kube.create_pod("pods", pod_body("w-0")))
    access = manifests.worker_role_binding("pods", "callfleet-worker")
    await asker.tell("access", kube.ensure_worker_access("pods", manifests.worker_account(), access))
    await asker.tell("access", kube.ensure_worker_access("pods", manifests.worker_account(), access))
    since = await _since(asker, f"{path}/pods")
    for name, spec in (("w-0", {}), ("w-1", {"nodeName": "n"}), ("w-0", {})):
        await asker.tell("created", kube.create_pod("pods", pod_body(name, **spec)))
    meta = {name: Meta.of(await asker.ask("GET", f"{path}/pods/{name}")) for name in ("w-0", "w-1")}
    await asker.tell("marked", kube.mark_pod(meta["w-0"], manifests.call_marks(3), as_seen=True))
    await asker.tell("marked", kube.mark_pod(meta["w-0"], manifests.call_marks(None), as_seen=True))
    await asker.tell("marked", kube.mark_pod(meta["w-0"], manifests.call_marks(None), as_seen=False))
    await asker.tell("deleted", kube.delete_pod(meta["w-0"]))
    running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    found = await asker.ask("PATCH", f"{path}/pods/w-1/status", {"status": running})
    await asker.tell("deleted", kube.delete_pod(Meta.of(found)))
    await asker.tell("marked", kube.mark_pod(meta["w-1"], manifests.call_marks(4), as_seen=False))
    await asker.ask("GET", f"{path}/pods")
    zero = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    await asker.ask("DELETE", f"{path}/pods/w-1", zero)
    await asker.ask("DELETE", f"{path}/pods/w-0", zero)
    await asker.ask("GET", f"{path}/pods")
    await asker.events(f"{path}/pods", since, 10)


async def the_rest(asker: Asker) -> None:
    """Lease, Secret, ConfigMap, Event, PodDisruptionBudget, through the operator's own module."""
    await _namespace(asker, "rest")
    kube, path = asker.kube, "/api/v1/namespaces/rest"
    now = Meta.of({"metadata": {"name": "x", "uid": "x", "resourceVersion": "1",
                                "creationTimestamp": "2026-01-01T00:00:00Z"}}).created  # fmt: skip
    await asker.tell("lease", kube.read_lease("rest", "l"))
    for who in ("one", "two"):
        await asker.tell("lease", kube.create_lease("rest", "l", held_spec(None, who, now)))
    lease = await asker.tell("lease", kube.read_lease("rest", "l"))
    changed = {**lease, "spec": held_spec(lease["spec"], "two", now)}
    await asker.tell("replaced", kube.replace_lease(changed))
    await asker.tell("replaced", kube.replace_lease(changed))
    await asker.ask("GET", f"{_LEASES}/rest/leases/l")
    await asker.tell("secret", kube.read_secret("rest", "s"))
    await asker.tell("secret", kube.merge_secret("rest", "s", {"a": "1"}))
    await asker.tell("secret", kube.merge_secret("rest", "s", {"b": "2"}))
    await asker.tell("secret", kube.read_secret("rest", "s"))
    await asker.tell("secret", kube.copy_secret("rest", "default", "s"))
    await asker.tell("secret", kube.read_secret("default", "s"))
    version = await kube.put_config_map("rest", "m", {"a": "1"}, None)
    await asker.tell("map", kube.put_config_map("rest", "m", {"a": "1"}, None))
    await kube.put_config_map("rest", "m", {"b": "2"}, version)
    await asker.tell("map", kube.put_config_map("rest", "m", {"b": "3"}, version))
    await asker.ask("GET", f"{path}/configmaps/m")
    await asker.tell("map", kube.put_config_map("nowhere", "m", {"b": "3"}, None))
    await asker.tell("map", kube.ensure_config_map("rest", manifests.pool_config_map("pool", 1)))
    await asker.tell("map", kube.ensure_config_map("rest", manifests.pool_config_map("pool", 2)))
    await asker.tell("dropped", kube.drop_pool("rest", "m"))  # no pool's
    await asker.ask("GET", f"{path}/configmaps/m")
    for _ in range(2):
        await asker.tell("dropped", kube.drop_pool("rest", "pool"))
        await asker.ask("GET", f"{path}/configmaps/pool")
    await asker.tell("budget", kube.ensure_disruption_budget("rest", manifests.disruption_budget()))
    await asker.tell("budget", kube.ensure_disruption_budget("rest", manifests.disruption_budget()))
    session = await asker.ask("POST", f"{_OURS}/namespaces/rest/callsessions", session_body("rest", "one"))
    other = await asker.ask("POST", f"{_OURS}/namespaces/rest/callsessions", session_body("rest", "two"))
    known = {session["metadata"]["uid"]}
    async for bodies, _ in kube.pages("CallSession", lambda meta, _: meta["uid"] in known):
        parts = {body["metadata"]["name"]: sorted(body) for body in bodies if body["metadata"]["namespace"] == "rest"}
        asker.lines.append(["pages", parts])
        assert "spec" in parts["two"]
        assert "spec" not in parts["one"]
    found = await kube.file_version("ConfigMap", "rest", "m")
    assert found == (await asker.ask("GET", f"{path}/configmaps/m"))["metadata"]["resourceVersion"]
    await asker.tell("version", kube.file_version("Secret", "rest", "none"))
    assert Meta.of(other).name == "two"
    await asker.tell(
        "event",
        kube.post_event(
            "CallSession",
            Meta.of(session),
            reason="Because",
            message="it was so",
            warning=True,
            now=now,
        ),
    )
    events = await asker.api.call_api(f"{path}/events", "GET", auth_settings=["BearerToken"],
        response_types_map={200: "object"}, _return_http_data_only=True)  # fmt: skip
    asker.lines.append([(item["reason"], item["type"], item["firstTimestamp"]) for item in events["items"]])
    assert format_time(now) in str(asker.lines[-1])


async def statuses(asker: Asker) -> None:
    """Kube's own way to write a status, to set finalizers, to make and end sessions."""
    await _namespace(asker, "kube")
    kube, path = asker.kube, f"{_OURS}/namespaces/kube/callsessions"
    for _ in range(2):
        await asker.tell("created", kube.create_session(session_body("kube", "one")))
    seen = Meta.of(await asker.ask("GET", f"{path}/one"))
    written = await asker.tell("status", kube.write_status("CallSession", seen, {"state": "Pending", "reason": None}))
    await asker.tell("status", kube.write_status("CallSession", seen, {"state": "Admitted"}))
    now = Meta.of(written)
    await asker.tell("kept", kube.set_finalizers("CallSession", seen, []))
    await asker.tell("deleted", kube.delete_session(seen))
    await asker.tell("deleted", kube.delete_session(now))
    await asker.tell("kept", kube.set_finalizers("CallSession", Meta.of(await asker.ask("GET", f"{path}/one")), []))
    await asker.tell("deleted", kube.delete_session(now))
    await asker.tell("status", kube.write_status("CallSession", now, {"state": "Admitted"}))
    await asker.ask("GET", path)


@pytest.mark.parametrize(
    "scenario",
    [objects_of_ours, what_does_not_fit, spec_and_status, compare_and_set, finalizers, lists, pods, the_rest, statuses],
)
async def test_the_model_answers_as_the_server(
    scenario: Callable[[Asker], Awaitable[None]], real: Asker, model: Asker
) -> None:
    await scenario(real)
    await scenario(model)
    assert list(differences(model.transcript(), real.transcript())) == []
