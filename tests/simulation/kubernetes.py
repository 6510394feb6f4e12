"""The API server's place in the simulation: objects with versions, preconditions, finalizers, owners and watches."""

# ruff: noqa: ARG002  # the signatures are those of the classes in whose place these stand

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from tests.simulation.database import Way

from callfleet_operator.apiserver import ConflictError
from callfleet_operator.kube import Kube
from callfleet_operator.objects import Meta, format_time

Body = dict[str, Any]
Seen = Callable[[str, str, Body], None]


class Cluster:
    """Bodies by kind and name, all of one namespace. No body is ever changed: a write makes another."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.version = 1
        self._made = 0
        self.bodies: dict[str, dict[str, Body]] = {"Campaign": {}, "CallSession": {}, "Budget": {}, "Pod": {}}
        self.config_maps: dict[str, tuple[dict[str, str], int]] = {}
        self.watchers: list[Seen] = []

    def find(self, kind: str, name: str) -> Body | None:
        """An object as it is."""
        return self.bodies[kind].get(name)

    def create(self, kind: str, namespace: str, body: Body) -> Body | None:
        """Makes an object and answers it; None when it is there already."""
        name = body["metadata"]["name"]
        if name in self.bodies[kind]:
            return None
        self._made += 1
        meta = {
            "namespace": namespace, "generation": 1, "creationTimestamp": format_time(self._now()),
            **body["metadata"], "uid": str(UUID(int=self._made, version=4)),
        }  # fmt: skip
        self._store(kind, {**body, "metadata": meta}, "ADDED")
        return self.bodies[kind][name]

    def patch(self, kind: str, name: str, change: Body, *, spec: bool = False) -> Body:
        """A merge patch; with `spec` it makes a new generation. Raises ConflictError where a precondition fails."""
        known = self.bodies[kind].get(name)
        if known is None:
            raise ConflictError(f"{kind} {name} is gone")
        wanted = change.get("metadata", {})
        for key in ("resourceVersion", "uid"):
            if key in wanted and wanted[key] != known["metadata"][key]:
                raise ConflictError(f"{kind} {name} changed meanwhile")
        new = merged(known, change)
        if new == known:
            return known
        if spec:
            new["metadata"] = {**new["metadata"], "generation": known["metadata"]["generation"] + 1}
        self._store(kind, new, "MODIFIED")
        self._sweep(kind, name)
        return new

    def delete(self, kind: str, name: str, known: Body | None = None) -> None:
        """Deletes an object, which its finalizers keep for a while; `known`: only as it was seen."""
        body = self.bodies[kind].get(name)
        if body is None or any(body["metadata"][key] != value for key, value in (known or {}).items()):
            return
        if "deletionTimestamp" not in body["metadata"]:
            meta = {**body["metadata"], "deletionTimestamp": format_time(self._now())}
            self._store(kind, {**body, "metadata": meta}, "MODIFIED")
        self._sweep(kind, name)

    def remove(self, kind: str, name: str) -> None:
        """An object is gone; what it owns is deleted."""
        body = self.bodies[kind].pop(name, None)
        if body is None:
            return
        self.version += 1
        gone = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        self._tell(kind, "DELETED", gone)
        uid = body["metadata"]["uid"]
        for other in list(self.bodies["CallSession"].values()):
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences", ())):
                self.delete("CallSession", other["metadata"]["name"])

    def _sweep(self, kind: str, name: str) -> None:
        meta = self.bodies[kind][name]["metadata"]
        # A pod goes when its worker has ended.
        if kind != "Pod" and "deletionTimestamp" in meta and not meta.get("finalizers"):
            self.remove(kind, name)

    def _store(self, kind: str, body: Body, event: str) -> None:
        self.version += 1
        body["metadata"] = {**body["metadata"], "resourceVersion": str(self.version)}
        self.bodies[kind][body["metadata"]["name"]] = body
        self._tell(kind, event, body)

    def _tell(self, kind: str, event: str, body: Body) -> None:
        for watcher in list(self.watchers):
            watcher(kind, event, body)


def merged(known: Body, change: Mapping[str, Any]) -> Body:
    """A JSON merge patch (RFC 7386): null removes."""
    new = dict(known)
    for key, value in change.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, Mapping):
            old = known.get(key)
            new[key] = merged(old if isinstance(old, dict) else {}, value)
        else:
            new[key] = value
    return new


class MemoryKube(Kube):
    """The operator's client."""

    def __init__(self, cluster: Cluster, way: Way) -> None:
        self._cluster, self._way = cluster, way

    async def pages(
        self, kind: str, knows: Callable[[Body, int], bool] | None = None
    ) -> AsyncIterator[tuple[list[Body], int]]:
        yield list(self._cluster.bodies[kind].values()), self._cluster.version

    async def read(self, kind: str, meta: Meta) -> Body | None:
        return self._cluster.find(kind, meta.name)

    async def write_status(self, kind: str, meta: Meta, status: Mapping[str, Any]) -> Body:
        await self._way.go()
        body = self._cluster.patch(kind, meta.name, {"metadata": _as_seen(meta), "status": dict(status)})
        await self._way.go()
        return body

    async def set_finalizers(self, kind: str, meta: Meta, finalizers: Sequence[str]) -> None:
        await self._way.go()
        self._cluster.patch(kind, meta.name, {"metadata": {**_as_seen(meta), "finalizers": list(finalizers)}})

    async def create_session(self, body: Body) -> Body | None:
        await self._way.go()
        return self._cluster.create("CallSession", body["metadata"]["namespace"], body)

    async def delete_session(self, meta: Meta) -> None:
        await self._way.go()
        self._cluster.delete("CallSession", meta.name, _as_seen(meta))

    async def create_pod(self, namespace: str, body: Body) -> Body | None:
        await self._way.go()
        return self._cluster.create("Pod", namespace, {key: body[key] for key in ("metadata",)})

    async def delete_pod(self, meta: Meta) -> None:
        await self._way.go()
        self._cluster.delete("Pod", meta.name, _as_seen(meta))

    async def mark_pod(self, meta: Meta, marks: Mapping[str, Any], *, as_seen: bool) -> Body:
        await self._way.go()
        known = _as_seen(meta) if as_seen else {"uid": meta.uid}
        body = self._cluster.patch("Pod", meta.name, {"metadata": {**known, **marks}})
        if "deletionTimestamp" in body["metadata"]:
            raise ConflictError(f"Pod {meta.name} is told to end")
        return body

    async def read_config_map(self, namespace: str, name: str) -> tuple[dict[str, str], str] | None:
        found = self._cluster.config_maps.get(name)
        return None if found is None else (found[0], str(found[1]))

    async def put_config_map(self, namespace: str, name: str, data: Mapping[str, str], seen: str | None) -> str:
        await self._way.go()
        found = self._cluster.config_maps.get(name)
        if seen != (None if found is None else str(found[1])):
            raise ConflictError(f"ConfigMap {name} changed meanwhile")
        version = 1 if found is None else found[1] + 1
        self._cluster.config_maps[name] = dict(data), version
        return str(version)

    async def ensure_config_map(self, namespace: str, body: Body) -> str:
        return str(UUID(int=7, version=4))

    async def drop_pool(self, namespace: str, name: str) -> None:
        pass

    async def ensure_worker_access(self, namespace: str, account: Body, binding: Body) -> None:
        pass

    async def ensure_disruption_budget(self, namespace: str, body: Body) -> None:
        pass

    async def merge_secret(self, namespace: str, name: str, entries: Mapping[str, str]) -> None:
        pass

    async def read_secret(self, namespace: str, name: str) -> dict[str, str] | None:
        return {}

    async def copy_secret(self, source_namespace: str, namespace: str, name: str) -> None:
        pass

    async def post_event(
        self, kind: str, meta: Meta, *, reason: str, message: str, warning: bool = False, now: datetime
    ) -> None:
        pass


def _as_seen(meta: Meta) -> Body:
    return {"uid": meta.uid, "resourceVersion": meta.resource_version}


def bound(cluster: Cluster, pod_uid: str) -> Iterator[Body]:
    """The sessions that are bound to a pod."""
    for body in list(cluster.bodies["CallSession"].values()):
        status = body.get("status", {})
        if status.get("podUID") == pod_uid and status.get("state") == "Admitted":
            yield body
