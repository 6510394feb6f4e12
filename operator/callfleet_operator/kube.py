"""The only module of the operator that talks to the API server, beside kopf's own watches.

Writes go through a token bucket. Status writes are compare-and-set on resourceVersion: a 409 is Conflict, and the
caller looks again instead of forcing its view.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp.helpers import get_env_proxy_for_url
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException
from yarl import URL

from callfleet_core.api import API_VERSION, GROUP, VERSION
from callfleet_core.errors import CallFleetError
from callfleet_operator.objects import POOL_LABEL, Meta, format_time

# A call costs eight; the API server's own fairness protects it from more than it can take.
WRITES_PER_SECOND = 1000.0
BURST = 2000.0
REQUEST_TIMEOUT_S = 15
LIST_CHUNK = 500
PLURALS = {"Campaign": "campaigns", "CallSession": "callsessions", "Budget": "budgets"}
_MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
_OURS = {"app.kubernetes.io/managed-by": "callfleet"}
_GROUP_PATH = f"/apis/{GROUP}/{VERSION}"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces"


# 429: how often a write is tried again, and how long the server may keep everybody waiting for it.
_TOO_MANY = 429
_TURNED_AWAY_AT_MOST = 3
_LONGEST_REST_S = 10.0


class ConflictError(CallFleetError):
    """The object changed or vanished meanwhile: look again."""


class RefusedError(CallFleetError):
    """The API server will not have an object: a quota, a policy, a field; its text is the server's own."""


class TokenBucket:
    """Bounds a rate; at most `burst` writes at once, then `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._tokens = rate, burst, burst
        self._at: float | None = None

    def rest(self, seconds: float) -> None:
        """Nobody may write for so long."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens, -seconds * self._rate)
        self._at = now

    async def take(self) -> None:
        """Waits until a write may be made."""
        now = asyncio.get_running_loop().time()
        elapsed = 0.0 if self._at is None else now - self._at
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


class Kube:
    """Reads and writes of the operator, as JSON: what goes out is what manifests.py made."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._bucket = TokenBucket(WRITES_PER_SECOND, BURST)

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> Kube:
        """By the given file; without one, in the cluster by its service account, elsewhere by KUBECONFIG."""
        if kubeconfig is not None:
            await config.load_kube_config(config_file=str(kubeconfig))
            return cls(_client())
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        except config.ConfigException:
            await config.load_kube_config()
        return cls(_client())

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def list_objects(self, kind: str) -> tuple[list[dict[str, Any]], int]:
        """Every object of a kind, in chunks, and the list's resourceVersion."""
        query = {"limit": str(LIST_CHUNK)}
        path = f"{_GROUP_PATH}/{PLURALS[kind]}" if kind in PLURALS else "/api/v1/pods"
        if kind == "Pod":
            query["labelSelector"] = POOL_LABEL
        items: list[dict[str, Any]] = []
        while True:
            page = await self._request("GET", path, query=query)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items, int(page["metadata"]["resourceVersion"])
            query["continue"] = token

    async def write_status(self, kind: str, meta: Meta, status: Mapping[str, Any]) -> dict[str, Any]:
        """Replaces the given fields of a status, if the object is still as `meta` saw it; answers the new object.

        Raises ConflictError otherwise.
        """
        body = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": dict(status)}
        with _conflicts(f"{kind} {meta.namespace}/{meta.name}"):
            return await self._write("PATCH", f"{_path(kind, meta)}/status", body, content_type=_MERGE_PATCH)

    async def set_finalizers(self, kind: str, meta: Meta, finalizers: Sequence[str]) -> None:
        """Replaces an object's finalizers, if it is still as it was seen. Raises ConflictError otherwise."""
        body = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid, "finalizers": list(finalizers)}}
        with _conflicts(f"{kind} {meta.namespace}/{meta.name}"):
            await self._write("PATCH", _path(kind, meta), body, content_type=_MERGE_PATCH)

    async def create_session(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates a CallSession and answers it; None when it is there already."""
        return await self._create(f"{_GROUP_PATH}/namespaces/{body['metadata']['namespace']}/callsessions", body)

    async def delete_session(self, meta: Meta) -> None:
        """Deletes a CallSession, if it is still as it was seen."""
        await self._delete(_path("CallSession", meta), {"uid": meta.uid, "resourceVersion": meta.resource_version})

    async def create_pod(self, namespace: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates a worker pod and answers it; None when it is there already. Raises RefusedError."""
        try:
            return await self._create(f"/api/v1/namespaces/{namespace}/pods", body)
        except ApiException as error:
            if error.status in {400, 403, 422}:
                raise RefusedError(_told(error, "message")) from error
            raise

    async def delete_pod(self, meta: Meta) -> None:
        """Deletes a worker pod, if it is still as it was seen."""
        path = f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}"
        await self._delete(path, {"uid": meta.uid, "resourceVersion": meta.resource_version})

    async def mark_pod(self, meta: Meta, marks: Mapping[str, Any], *, as_seen: bool) -> dict[str, Any]:
        """Sets a worker pod's labels and annotations (None removes one); answers the new pod.

        Raises ConflictError when the pod is another one, is told to end, or, with `as_seen`, changed meanwhile.
        """
        known = {"uid": meta.uid, **({"resourceVersion": meta.resource_version} if as_seen else {})}
        path = f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}"
        with _conflicts(f"Pod {meta.namespace}/{meta.name}"):
            body = await self._write("PATCH", path, {"metadata": {**known, **marks}}, content_type=_MERGE_PATCH)
        if "deletionTimestamp" in body["metadata"]:
            raise ConflictError(f"Pod {meta.namespace}/{meta.name} is told to end")
        return body

    async def ensure_disruption_budget(self, namespace: str, body: dict[str, Any]) -> None:
        """Gives a namespace a PodDisruptionBudget, unless it has it."""
        await self._create(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", body)

    async def read_key(self, kind: str, namespace: str, name: str, key: str) -> str | None:
        """A key's text in a ConfigMap or Secret, or None where there is none."""
        if kind == "Secret":
            return ((await self.read_secret(namespace, name)) or {}).get(key)
        found = await self.read_config_map(namespace, name)
        return None if found is None else found[0].get(key)

    async def read_secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """A Secret's decoded entries, or None where there is none."""
        found = await self._find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if found is None:
            return None
        data = found.get("data") or {}
        return {key: base64.b64decode(value).decode("utf-8", errors="replace") for key, value in data.items()}

    async def merge_secret(self, namespace: str, name: str, entries: Mapping[str, str]) -> None:
        """Adds or replaces entries of a Secret of ours; makes it where there is none."""
        await self._put_secret(
            namespace, name, {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
        )

    async def copy_secret(self, source_namespace: str, namespace: str, name: str) -> None:
        """Gives a namespace a current copy of a Secret of the installation's."""
        source = await self._request("GET", f"/api/v1/namespaces/{source_namespace}/secrets/{name}")
        await self._put_secret(namespace, name, source.get("data", {}))

    async def _put_secret(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        path = f"/api/v1/namespaces/{namespace}/secrets"
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": _OURS},
            "data": dict(data),
        }
        if await self._create(path, body) is None:
            await self._write("PATCH", f"{path}/{name}", {"data": dict(data)}, content_type=_MERGE_PATCH)

    async def read_config_map(self, namespace: str, name: str) -> tuple[dict[str, str], str] | None:
        """A ConfigMap's entries and its resourceVersion, or None where there is none."""
        found = await self._find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        if found is None:
            return None
        return dict(found.get("data") or {}), str(found["metadata"]["resourceVersion"])

    async def put_config_map(self, namespace: str, name: str, data: Mapping[str, str], seen: str | None) -> str:
        """Replaces entries of a ConfigMap of ours, if it is still as it was `seen` (None: not there); its new version.

        Raises ConflictError otherwise.
        """
        path, meta = f"/api/v1/namespaces/{namespace}/configmaps", {"name": name}
        try:
            if seen is None:
                body = {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {**meta, "labels": _OURS},
                    "data": dict(data),
                }
                done = await self._write("POST", path, body)
            else:
                body = {"metadata": {"resourceVersion": seen}, "data": dict(data)}
                done = await self._write("PATCH", f"{path}/{name}", body, content_type=_MERGE_PATCH)
        except ApiException as error:
            if error.status in {404, 409} and not (seen is None and error.status == 404):
                raise ConflictError(f"ConfigMap {namespace}/{name} changed meanwhile") from error
            raise
        return str(done["metadata"]["resourceVersion"])

    async def ensure_config_map(self, namespace: str, body: dict[str, Any]) -> str:
        """Creates a ConfigMap unless it exists; answers its UID."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        await self._create(path, body)
        found = await self._request("GET", f"{path}/{body['metadata']['name']}")
        return str(found["metadata"]["uid"])

    async def ensure_worker_access(self, namespace: str, account: dict[str, Any], binding: dict[str, Any]) -> None:
        """Gives a namespace the workers' service account and its role binding."""
        await self._create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        await self._create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)

    async def read_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Lease, or None where there is none."""
        return await self._find(f"{_LEASES}/{namespace}/leases/{name}")

    async def create_lease(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Makes a Lease; it does not wait for its turn among the writes. Raises ConflictError when it is there."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": dict(spec),
        }
        with _conflicts(f"Lease {namespace}/{name}"):
            await self._request("POST", f"{_LEASES}/{namespace}/leases", body=body)

    async def replace_lease(self, body: dict[str, Any]) -> None:
        """Replaces a Lease, if it is still as it was read. Raises ConflictError otherwise."""
        meta = body["metadata"]
        with _conflicts(f"Lease {meta['namespace']}/{meta['name']}"):
            await self._request("PUT", f"{_LEASES}/{meta['namespace']}/leases/{meta['name']}", body=body)

    async def post_event(
        self, kind: str, meta: Meta, *, reason: str, message: str, warning: bool, now: datetime
    ) -> None:
        """Tells an object's story for `kubectl describe`. A lost Event loses nothing."""
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta.name[:200]}.", "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "callfleet-operator"},
            "firstTimestamp": format_time(now),
            "lastTimestamp": format_time(now),
            "count": 1,
        }
        await self._write("POST", f"/api/v1/namespaces/{meta.namespace}/events", body)

    async def _find(self, path: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return await self._request("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    async def _create(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates an object and answers it; None when it is there already.

        Raises ConflictError when something else, such as a quota, changed meanwhile: then it is not there.
        """
        try:
            return await self._write("POST", path, body)
        except ApiException as error:
            if error.status != 409:
                raise
            if _told(error, "reason") == "AlreadyExists":
                return None
            raise ConflictError(f"{body['kind']} was not created, since something changed meanwhile") from error

    async def _delete(self, path: str, preconditions: dict[str, str]) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            await self._write("DELETE", path, body)
        except ApiException as error:
            if error.status not in {404, 409}:
                raise

    async def _write(
        self, method: str, path: str, body: dict[str, Any], *, content_type: str = _JSON
    ) -> dict[str, Any]:
        for _ in range(_TURNED_AWAY_AT_MOST):
            await self._bucket.take()
            try:
                return await self._request(method, path, body=body, content_type=content_type)
            except ApiException as error:
                if error.status != _TOO_MANY:
                    raise
                # The server has done nothing of it, and says when it may be asked again: nobody else asks before.
                self._bucket.rest(_retry_after_s(error))
        await self._bucket.take()
        return await self._request(method, path, body=body, content_type=content_type)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = await self._api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": _JSON, "Content-Type": content_type},
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return answer


@contextmanager
def _conflicts(what: str) -> Iterator[None]:
    """A compare-and-set that the server refuses, because `what` is another or gone, is a ConflictError."""
    try:
        yield
    except ApiException as error:
        if error.status in {404, 409}:
            raise ConflictError(f"{what} changed meanwhile") from error
        raise


def _retry_after_s(error: ApiException) -> float:
    """What a busy server asks for, in seconds; a second where it asks for nothing."""
    headers: Mapping[str, str] = error.headers or {}
    asked = headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_REST_S) if asked.isdigit() else 1.0


def _told(error: ApiException, name: str) -> str:
    """A field of the API server's own Status."""
    try:
        return str(json.loads(error.body or "")[name])
    except (ValueError, TypeError, KeyError):
        return f"the API server answered {error.status}"


def _client() -> client.ApiClient:
    """A client that goes through the environment's proxy, if there is one, but does not read ~/.netrc each time.

    aiohttp would do so in a thread before every request: a tenth of the operator's time (docs/decisions/0024).
    """
    api = client.ApiClient()
    rest = api.rest_client
    if rest.proxy is None:
        with suppress(LookupError):
            rest.proxy, login = get_env_proxy_for_url(URL(api.configuration.host))
            rest.proxy_headers = {"Proxy-Authorization": login.encode()} if login else None
    rest.pool_manager._trust_env = False  # the package leaves no other way
    return api


def _path(kind: str, meta: Meta) -> str:
    return f"{_GROUP_PATH}/namespaces/{meta.namespace}/{PLURALS[kind]}/{meta.name}"
