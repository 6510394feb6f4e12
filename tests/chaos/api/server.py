"""A model of the API server, in memory: what it stores, refuses and tells, as far as the operator can notice.

One call is one moment. tests/chaos/api/test_contract.py asks it and the real server the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tests.chaos.api import schema
from tests.chaos.api.copies import copied
from tests.chaos.api.resources import Place, Resource, matches, place_of, selects

Body = dict[str, Any]
_Key = tuple[Resource, str, str]
_STATUS_OF_NEW = {"Pod": {"phase": "Pending", "qosClass": "BestEffort"}}
_META_KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp")


class RefusalError(Exception):
    """What the server answers instead of an object: a Status with a code and a reason."""

    def __init__(self, code: int, reason: str, message: str = "") -> None:
        super().__init__(f"{code} {reason} {message}")
        self.code, self.reason, self.message = code, reason, message

    def body(self) -> Body:
        """As JSON."""
        return {
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        }  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One event of a watch: ADDED, MODIFIED or DELETED, with the object as it is, or was at last."""

    version: int
    type: str
    resource: Resource
    body: Body = field(repr=False)


@dataclass
class ApiModel:
    """The server. `clock` is its wall clock."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    changes: list[Change] = field(default_factory=list)
    on_change: list[Callable[[Change], None]] = field(default_factory=list)
    _objects: dict[_Key, Body] = field(default_factory=dict)
    _version: int = 1
    _pages: dict[str, tuple[list[Body], int]] = field(default_factory=dict)
    _has_writer: set[str] = field(default_factory=set)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for name in ("default", "kube-system"):
            self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._version

    def request(self, method: str, path: str, body: Body | None = None, **query: str) -> Body:
        """One call. Raises RefusalError."""
        place = place_of(path)
        if place is None:
            raise RefusalError(404, "NotFound", f"no resource at {path}")
        if method == "GET":
            return copied(self._get(place)) if place.name else self._list(place, query)
        if method == "POST":
            return self._create(place, body or {})
        if method == "DELETE":
            return self._delete(place, body or {})
        return self._update(place, body or {}, merge=method == "PATCH")

    def all(self, kind: str) -> list[Body]:
        """Copies of every object of a kind, in their order."""
        found = sorted((key[1:], body) for key, body in self._objects.items() if key[0].kind == kind)
        return [copied(body) for _, body in found]

    def assign(self, path: str, node: str) -> None:
        """What a scheduler does."""
        self.request("PATCH", path, {"spec": {"nodeName": node}})

    def collect(self) -> bool:
        """One step of the garbage collector: what has no owner any more goes; true when something went."""
        alive = {body["metadata"]["uid"] for body in self._objects.values()}
        for (resource, namespace, name), body in list(self._objects.items()):
            owners = body["metadata"].get("ownerReferences") or []
            if (
                owners
                and not alive & {owner["uid"] for owner in owners}
                and "deletionTimestamp" not in body["metadata"]
            ):
                self._delete(Place(resource, namespace, name), {})
                return True
        return False

    def _get(self, place: Place) -> Body:
        found = self._objects.get((place.resource, place.namespace, place.name))
        if found is None:
            raise RefusalError(404, "NotFound", f'{place.resource.qualified} "{place.name}" not found')
        return found

    def _list(self, place: Place, query: Mapping[str, str]) -> Body:
        token = query.get("continue", "")
        if token:
            if token not in self._pages:
                raise RefusalError(410, "Expired", "the provided continue parameter is too old")
            items, version = self._pages[token]
        else:
            items, version = list(self._selected(place, query)), self._version
        limit = int(query.get("limit", 0)) or len(items)
        meta: Body = {"resourceVersion": str(version)}
        if len(items) > limit:
            meta |= {"continue": f"page-{next(self._names)}"}
            self._pages[meta["continue"]] = (items[limit:], version)
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                meta["remainingItemCount"] = len(items) - limit
        resource = place.resource
        return {
            "apiVersion": resource.api_version, "kind": f"{resource.kind}List", "metadata": meta,
            "items": items[:limit],
        }  # fmt: skip

    def _selected(self, place: Place, query: Mapping[str, str]) -> Iterator[Body]:
        for (resource, namespace, _), body in sorted(self._objects.items(), key=lambda item: item[0][1:]):
            if resource != place.resource or (place.namespace and namespace != place.namespace):
                continue
            if not selects(query.get("labelSelector", ""), body) or not matches(query.get("fieldSelector", ""), body):
                continue
            item = copied(body)
            if not resource.custom:  # typed lists say it once, for all
                item.pop("kind"), item.pop("apiVersion")
            yield item

    def _create(self, place: Place, given: Body) -> Body:
        resource, body = place.resource, copied(given)
        meta = body.setdefault("metadata", {})
        name = meta.get("name") or f"{meta.get('generateName', '')}{next(self._names):05d}"
        if place.namespace and not any(
            key[2] == place.namespace for key in self._objects if key[0].kind == "Namespace"
        ):
            raise RefusalError(404, "NotFound", f'namespaces "{place.namespace}" not found')
        if resource.kind == "Pod":
            self._assert_account(place.namespace, body)
        if (resource, place.namespace, name) in self._objects:
            raise RefusalError(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists')
        body |= {"apiVersion": resource.api_version, "kind": resource.kind}
        body["metadata"] = {
            **{key: value for key, value in meta.items() if value not in (None, {}, [])},
            "name": name, "uid": str(uuid4()), "creationTimestamp": self._now(),
            **({"namespace": place.namespace} if place.namespace else {}),
            **({"generation": 1} if resource.counted else {}),
        }  # fmt: skip
        if resource.with_status:
            body.pop("status", None)
        if resource.kind in _STATUS_OF_NEW:
            body["status"] = dict(_STATUS_OF_NEW[resource.kind])
        return self._store((resource, place.namespace, name), self._checked(resource, body), "ADDED")

    def _assert_account(self, namespace: str, body: Body) -> None:
        account = body.get("spec", {}).get("serviceAccountName", "default")
        if account != "default" and not any(
            key[0].kind == "ServiceAccount" and key[1:] == (namespace, account) for key in self._objects
        ):
            raise RefusalError(403, "Forbidden", f"error looking up service account {namespace}/{account}")

    def _update(self, place: Place, given: Body, *, merge: bool) -> Body:
        old = self._get(place)
        meta, known = given.get("metadata") or {}, old["metadata"]
        if meta.get("resourceVersion", known["resourceVersion"]) != known["resourceVersion"]:
            raise RefusalError(
                409, "Conflict", f'Operation cannot be fulfilled on {place.resource.qualified} "{place.name}"'
            )
        # A custom object's status is taken whatever UID it comes with.
        if meta.get("uid", known["uid"]) != known["uid"] and not (place.status and place.resource.custom):
            raise RefusalError(
                *((422, "Invalid") if merge else (409, "Conflict")), f"another UID than that of {place.name}"
            )
        new = _merged(old, given) if merge else copied(given)
        new["metadata"] = {**new["metadata"], **{key: known[key] for key in _META_KEPT if key in known}}
        if place.status:
            new = {**copied(old), "status": new.get("status")}
        elif place.resource.with_status:
            new = {**{key: value for key, value in new.items() if key != "status"}, **_only(old, "status")}
        new = self._checked(place.resource, {key: value for key, value in new.items() if value is not None})
        added = set(new["metadata"].get("finalizers", ())) - set(known.get("finalizers", ()))
        if "deletionTimestamp" in known and added:
            raise RefusalError(422, "Invalid", "no new finalizers can be added if the object is being deleted")
        for name in ("labels", "annotations", "finalizers", "ownerReferences"):
            if new["metadata"].get(name) in ({}, []):
                del new["metadata"][name]
        # The first to write a status is noted down in the object, whatever it wrote.
        first = place.status and known["uid"] not in self._has_writer
        if new == old and not first:
            return copied(old)
        if place.status:
            self._has_writer.add(known["uid"])
        if place.resource.counted and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = known["generation"] + 1
        key = (place.resource, place.namespace, place.name)
        if "deletionTimestamp" in known and not new["metadata"].get("finalizers") and known.get("finalizers"):
            self._remove(key, copied(old))  # watches see it as it was before its last finalizer went
            return new
        return self._store(key, new, "MODIFIED")

    def _checked(self, resource: Resource, body: Body) -> Body:
        if not resource.custom:
            return body
        body = schema.admitted(resource.plural, body)
        found = schema.problems(resource.plural, body)
        if found:
            name = body["metadata"]["name"]
            raise RefusalError(
                422, "Invalid", f'{resource.kind}.{resource.group} "{name}" is invalid: {"; ".join(found)}'
            )
        return body

    def _delete(self, place: Place, options: Body) -> Body:
        old = self._get(place)
        meta, wanted = old["metadata"], options.get("preconditions") or {}
        for name in ("uid", "resourceVersion"):
            if name in wanted and wanted[name] != meta[name]:
                raise RefusalError(409, "Conflict", f"Precondition failed: {name} in precondition: {wanted[name]}")
        key = (place.resource, place.namespace, place.name)
        grace = self._grace_s(place.resource, old, options)
        if meta.get("finalizers") or grace:
            if "deletionTimestamp" in meta:
                return copied(old)
            new = copied(old)
            new["metadata"] |= {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": grace}
            if place.resource.counted:
                new["metadata"]["generation"] = meta["generation"] + 1
            return self._store(key, new, "MODIFIED")
        gone = copied(old)
        if place.resource.kind == "Pod":
            gone["metadata"] |= {"deletionTimestamp": self._now(), "deletionGracePeriodSeconds": 0}
            gone["metadata"]["generation"] += "deletionTimestamp" not in meta
            gone = self._store(key, gone, "MODIFIED")
        gone = self._remove(key, gone)
        if place.resource.answers_deleted:
            return gone
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _grace_s(self, resource: Resource, body: Body, options: Body) -> int:
        """A pod that runs on a node is given time; one that has none goes at once."""
        if resource.kind != "Pod" or not body["spec"].get("nodeName"):
            return 0
        if body.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return 0
        return int(options.get("gracePeriodSeconds", body["spec"].get("terminationGracePeriodSeconds", 30)))

    def _store(self, key: _Key, body: Body, kind: str) -> Body:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self._objects[key] = body
        self._tell(Change(self._version, kind, key[0], copied(body)))
        return copied(body)

    def _remove(self, key: _Key, body: Body) -> Body:
        self._version += 1
        del self._objects[key]
        body["metadata"]["resourceVersion"] = str(self._version)
        self._tell(Change(self._version, "DELETED", key[0], copied(body)))
        return body

    def _tell(self, change: Change) -> None:
        self.changes.append(change)
        for listener in self.on_change:
            listener(change)

    def _now(self) -> str:
        return self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _only(body: Body, name: str) -> Body:
    return {name: copied(body[name])} if name in body else {}


def _merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386); the server takes nulls out of lists' items, too."""
    if isinstance(patch, list):
        return [_merged({}, item) if isinstance(item, dict) else copied(item) for item in patch]
    if not isinstance(patch, dict):
        return patch
    done = copied(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            done.pop(key, None)
        else:
            done[key] = _merged(done.get(key), value)
    return done
