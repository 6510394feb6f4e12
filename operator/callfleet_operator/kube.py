"""All that the operator reads and writes at the API server, beside kopf's own watches.

Status writes are compare-and-set on resourceVersion: a 409 is a ConflictError, and the caller looks again instead of
forcing its view.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_core.api import API_VERSION, GROUP, VERSION
from callfleet_operator.apiserver import (
    MERGE_PATCH,
    METADATA,
    METADATA_LIST,
    ConflictError,
    ListExpiredError,
    RefusedError,
    Requests,
    conflicts,
)
from callfleet_operator.objects import POOL_LABEL, Meta, format_time
from callfleet_operator.together import each

LIST_CHUNK = 500
# Of a page's objects that are not known so many are read one by one; of more, the page is listed whole.
READ_ALONE = 25
PLURALS = {"Campaign": "campaigns", "CallSession": "callsessions", "Budget": "budgets"}
_OURS = {"app.kubernetes.io/managed-by": "callfleet"}
_GROUP_PATH = f"/apis/{GROUP}/{VERSION}"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces"


class Kube(Requests):
    """Reads and writes of the operator, as JSON: what goes out is what manifests.py made."""

    async def pages(
        self, kind: str, knows: Callable[[dict[str, Any], int], bool] | None = None
    ) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        """Every object of a kind, page by page, each with the resourceVersion of the whole list.

        `knows` says of an object's metadata, and the list's resourceVersion, whether it is known as it is: then the
        rest of it is left out. Raises ListExpiredError when the server has compacted what its next page would be.
        """
        query = {"limit": str(LIST_CHUNK)}
        path = f"{_GROUP_PATH}/{PLURALS[kind]}" if kind in PLURALS else "/api/v1/pods"
        if kind == "Pod":
            query["labelSelector"] = POOL_LABEL
        while True:
            try:
                page = await self._page(kind, path, query, knows)
            except ApiException as error:
                if error.status == HTTPStatus.GONE and "continue" in query:
                    raise ListExpiredError(f"the list of {kind} took too long") from error
                raise
            yield page["items"], int(page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def _page(
        self, kind: str, path: str, query: Mapping[str, str], knows: Callable[[dict[str, Any], int], bool] | None
    ) -> dict[str, Any]:
        """One page of a list. Of what is known only metadata is asked for: a session is ten times as large."""
        if knows is None:
            return await self.ask(path, query)
        page = await self.ask(path, query, METADATA_LIST)
        version = int(page["metadata"]["resourceVersion"])
        unknown = [item["metadata"] for item in page["items"] if not knows(item["metadata"], version)]
        if len(unknown) > READ_ALONE:
            return await self.ask(path, query)
        read: dict[str, dict[str, Any]] = {}

        async def look(meta: dict[str, Any]) -> None:
            found = await self.find(_object_path(kind, meta["namespace"], meta["name"]))
            if found is not None:
                read[meta["uid"]] = found

        await each(unknown, look)
        missing = {meta["uid"] for meta in unknown} - read.keys()  # gone meanwhile
        metas = [item["metadata"] for item in page["items"] if item["metadata"]["uid"] not in missing]
        return {**page, "items": [read.get(meta["uid"], {"metadata": meta}) for meta in metas]}

    async def read(self, kind: str, meta: Meta) -> dict[str, Any] | None:
        """One of our objects as it is now, or None where there is none of that name."""
        return await self.find(_path(kind, meta))

    async def write_status(self, kind: str, meta: Meta, status: Mapping[str, Any]) -> dict[str, Any]:
        """Replaces the given fields of a status, if the object is still as `meta` saw it; answers the new object.

        Raises ConflictError otherwise.
        """
        body = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": dict(status)}
        with conflicts(f"{kind} {meta.namespace}/{meta.name}"):
            return await self.write("PATCH", f"{_path(kind, meta)}/status", body, content_type=MERGE_PATCH)

    async def set_finalizers(self, kind: str, meta: Meta, finalizers: Sequence[str]) -> None:
        """Replaces an object's finalizers, if it is still as it was seen. Raises ConflictError otherwise."""
        body = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid, "finalizers": list(finalizers)}}
        with conflicts(f"{kind} {meta.namespace}/{meta.name}"):
            await self.write("PATCH", _path(kind, meta), body, content_type=MERGE_PATCH)

    async def create_session(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates a CallSession and answers it; None when it is there already. Raises RefusedError."""
        return await self.create(f"{_GROUP_PATH}/namespaces/{body['metadata']['namespace']}/callsessions", body)

    async def delete_session(self, meta: Meta) -> None:
        """Deletes a CallSession, if it is still as it was seen."""
        await self.delete(_path("CallSession", meta), {"uid": meta.uid, "resourceVersion": meta.resource_version})

    async def create_pod(self, namespace: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates a worker pod and answers it; None when it is there already. Raises RefusedError."""
        return await self.create(f"/api/v1/namespaces/{namespace}/pods", body)

    async def delete_pod(self, meta: Meta) -> None:
        """Deletes a worker pod, if it is still as it was seen."""
        path = _path("Pod", meta)
        await self.delete(path, {"uid": meta.uid, "resourceVersion": meta.resource_version})

    async def mark_pod(self, meta: Meta, marks: Mapping[str, Any], *, as_seen: bool) -> dict[str, Any]:
        """Sets a worker pod's labels and annotations (None removes one); answers the new pod.

        Raises ConflictError when the pod is another one, is told to end, or, with `as_seen`, changed meanwhile; and
        RefusedError.
        """
        known = {"uid": meta.uid, **({"resourceVersion": meta.resource_version} if as_seen else {})}
        path = _path("Pod", meta)
        with conflicts(f"Pod {meta.namespace}/{meta.name}"):
            body = await self.write("PATCH", path, {"metadata": {**known, **marks}}, content_type=MERGE_PATCH)
        if "deletionTimestamp" in body["metadata"]:
            raise ConflictError(f"Pod {meta.namespace}/{meta.name} is told to end")
        return body

    async def ensure_disruption_budget(self, namespace: str, body: dict[str, Any]) -> None:
        """Gives a namespace a PodDisruptionBudget, unless it has it."""
        await self.create(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets", body)

    async def read_file(self, kind: str, namespace: str, name: str, key: str) -> tuple[str, str] | None:
        """A key's text in a ConfigMap or Secret, and the object's resourceVersion; None where there is none."""
        found = await self.find(_file_path(kind, namespace, name))
        if found is None:
            return None
        data = _decoded(found) if kind == "Secret" else found.get("data") or {}
        return None if key not in data else (str(data[key]), str(found["metadata"]["resourceVersion"]))

    async def file_version(self, kind: str, namespace: str, name: str) -> str | None:
        """The resourceVersion of a ConfigMap or Secret, or None where there is none."""
        found = await self.find(_file_path(kind, namespace, name), METADATA)
        return None if found is None else str(found["metadata"]["resourceVersion"])

    async def read_secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """A Secret's decoded entries, or None where there is none."""
        found = await self.find(_file_path("Secret", namespace, name))
        return None if found is None else _decoded(found)

    async def merge_secret(self, namespace: str, name: str, entries: Mapping[str, str]) -> None:
        """Adds or replaces entries of a Secret of ours; makes it where there is none."""
        await self._put_secret(
            namespace, name, {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
        )

    async def copy_secret(self, source_namespace: str, namespace: str, name: str) -> None:
        """Gives a namespace a current copy of a Secret of the installation's. Raises RefusedError."""
        source = await self.find(f"/api/v1/namespaces/{source_namespace}/secrets/{name}")
        if source is None:
            raise RefusedError(f"the installation's Secret {source_namespace}/{name} is not there")
        await self._put_secret(namespace, name, source.get("data", {}))

    async def _put_secret(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        path = f"/api/v1/namespaces/{namespace}/secrets"
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": _OURS},
            "data": dict(data),
        }
        if await self.create(path, body) is None:
            await self.write("PATCH", f"{path}/{name}", {"data": dict(data)}, content_type=MERGE_PATCH)

    async def read_config_map(self, namespace: str, name: str) -> tuple[dict[str, str], str] | None:
        """A ConfigMap's entries and its resourceVersion, or None where there is none."""
        found = await self.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
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
                done = await self.write("POST", path, body)
            else:
                body = {"metadata": {"resourceVersion": seen}, "data": dict(data)}
                done = await self.write("PATCH", f"{path}/{name}", body, content_type=MERGE_PATCH)
        except ApiException as error:
            if error.status in {404, 409} and not (seen is None and error.status == 404):
                raise ConflictError(f"ConfigMap {namespace}/{name} changed meanwhile") from error
            raise
        return str(done["metadata"]["resourceVersion"])

    async def ensure_config_map(self, namespace: str, body: dict[str, Any]) -> str:
        """Creates a ConfigMap, or gives the one that exists these annotations; answers its UID. Raises RefusedError."""
        path, meta = f"/api/v1/namespaces/{namespace}/configmaps", body["metadata"]
        found = await self.create(path, body)
        if found is None:
            marks = {"metadata": {"annotations": meta["annotations"]}}
            with conflicts(f"ConfigMap {namespace}/{meta['name']}"):
                found = await self.write("PATCH", f"{path}/{meta['name']}", marks, content_type=MERGE_PATCH)
        return str(found["metadata"]["uid"])

    async def drop_pool(self, namespace: str, name: str) -> None:
        """Deletes the ConfigMap that owned a pool's pods, unless one of them is there, whatever a watch has shown.

        It is read before the pods: a leader that makes pods writes its epoch there first (ensure_config_map), so that
        nobody whose look at the pods is older can delete it.
        """
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        found = await self.find(path)
        meta = {} if found is None else found["metadata"]
        if (meta.get("labels") or {}).get(POOL_LABEL) != name:
            return
        asked = {"labelSelector": f"{POOL_LABEL}={name}", "limit": "1"}
        pods = await self.request("GET", f"/api/v1/namespaces/{namespace}/pods", query=asked)
        if not pods["items"]:
            await self.delete(path, {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]})

    async def ensure_worker_access(self, namespace: str, account: dict[str, Any], binding: dict[str, Any]) -> None:
        """Gives a namespace the workers' service account and its role binding."""
        await self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
        await self.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings", binding)

    async def read_lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Lease, or None where there is none."""
        return await self.find(f"{_LEASES}/{namespace}/leases/{name}")

    async def create_lease(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """Makes a Lease; it does not wait for its turn among the writes. Raises ConflictError when it is there."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": dict(spec),
        }
        with conflicts(f"Lease {namespace}/{name}"):
            await self.request("POST", f"{_LEASES}/{namespace}/leases", body=body)

    async def replace_lease(self, body: dict[str, Any]) -> None:
        """Replaces a Lease, if it is still as it was read. Raises ConflictError otherwise."""
        meta = body["metadata"]
        with conflicts(f"Lease {meta['namespace']}/{meta['name']}"):
            await self.request("PUT", f"{_LEASES}/{meta['namespace']}/leases/{meta['name']}", body=body)

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
        await self.write("POST", f"/api/v1/namespaces/{meta.namespace}/events", body)


def _file_path(kind: str, namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{'secrets' if kind == 'Secret' else 'configmaps'}/{name}"


def _decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    data = secret.get("data") or {}
    return {key: base64.b64decode(value).decode("utf-8", errors="replace") for key, value in data.items()}


def _path(kind: str, meta: Meta) -> str:
    return _object_path(kind, meta.namespace, meta.name)


def _object_path(kind: str, namespace: str, name: str) -> str:
    if kind == "Pod":
        return f"/api/v1/namespaces/{namespace}/pods/{name}"
    return f"{_GROUP_PATH}/namespaces/{namespace}/{PLURALS[kind]}/{name}"
