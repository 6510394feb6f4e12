"""The resources that the operator knows, and how their paths read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resource:
    """One kind. `counted`: its spec has a generation; `with_status`: written by a door of its own."""

    group: str
    version: str
    plural: str
    kind: str
    counted: bool = False
    with_status: bool = False
    custom: bool = False
    # What says of a created or deleted one how it went: the object itself, or a Status.
    answers_deleted: bool = False

    @property
    def api_version(self) -> str:
        """As objects name it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_OURS = ("callfleet.dev", "v1alpha1")
RESOURCES = {
    (item.group, item.plural): item
    for item in (
        Resource(*_OURS, "campaigns", "Campaign", counted=True, with_status=True, custom=True),
        Resource(*_OURS, "budgets", "Budget", counted=True, with_status=True, custom=True),
        Resource(*_OURS, "callsessions", "CallSession", counted=True, with_status=True, custom=True),
        Resource("", "v1", "pods", "Pod", counted=True, with_status=True, answers_deleted=True),
        Resource("", "v1", "configmaps", "ConfigMap"),
        Resource("", "v1", "secrets", "Secret"),
        Resource("", "v1", "events", "Event"),
        Resource("", "v1", "serviceaccounts", "ServiceAccount", answers_deleted=True),
        Resource("", "v1", "namespaces", "Namespace"),
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", counted=True, with_status=True),
        Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
        Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    )
}


@dataclass(frozen=True)
class Place:
    """What a path means; no name: the collection, no namespace: of all."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    status: bool = False


def place_of(path: str) -> Place | None:
    """Reads a path; None where there is no such resource."""
    parts = [part for part in path.split("?")[0].split("/") if part]
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = RESOURCES.get((group, rest[0]))
    if resource is None:
        return None
    return Place(resource, namespace, rest[1] if len(rest) > 1 else "", status=rest[2:] == ["status"])


def selects(selector: str, body: dict[str, Any]) -> bool:
    """Whether a label selector takes an object: keys that are there, and keys with a value."""
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        key, equal, value = term.partition("=")
        if key not in labels or (equal and labels[key] != value.lstrip("=")):
            return False
    return True


def matches(selector: str, body: dict[str, Any]) -> bool:
    """Whether a field selector takes an object."""
    for term in filter(None, selector.split(",")):
        path, _, value = term.partition("=")
        found: Any = body
        for part in path.split("."):
            found = (found or {}).get(part)
        if (found or "") != value.lstrip("="):
            return False
    return True
