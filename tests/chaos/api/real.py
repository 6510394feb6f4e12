"""The real API server with the model's face: one caller, who waits for what each of its writes brings to the watches.

So that virtual time can pass beside it: between two of its calls nothing is on its way.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlencode, urlsplit

from tests.chaos.api.resources import RESOURCES, Resource, place_of
from tests.chaos.api.server import Body, Change, RefusalError
from tests.integration.apiserver import ApiServer

MERGE, JSON = "application/merge-patch+json", "application/json"
NAMESPACES = ("default", "sales")
TIMEOUT_S = 20.0
_NOT_WATCHED = {"Event", "Namespace"}


class RealApi:
    """As ApiModel. What an earlier world left in its namespaces is removed first."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.changes: list[Change] = []
        self.on_change: list[Callable[[Change], None]] = []
        self._calls = self._connection()
        self._watched = [item for item in RESOURCES.values() if item.kind not in _NOT_WATCHED]
        self._watches: dict[str, http.client.HTTPResponse] = {}
        for name in NAMESPACES:
            self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self._empty()
        self._seen = dict.fromkeys((item.kind for item in self._watched), 0)
        for resource in self._watched:
            self._watch(resource)

    def close(self) -> None:
        """Ends the connections."""
        for answer in self._watches.values():
            answer.close()
        self._calls.close()

    def request(self, method: str, path: str, body: Body | None = None, **query: str) -> Body:
        """One call, and what it brings to the watches. Raises RefusalError."""
        try:
            answer = self._ask(method, path, body, query)
        except RefusalError as error:
            if path == "/api/v1/namespaces" and error.reason == "AlreadyExists":
                return {}
            raise
        place = place_of(path)
        if method != "GET" and place is not None and place.resource.kind in self._watches:
            self._catch_up(place.resource, answer)
        return answer

    def assign(self, path: str, node: str) -> None:
        """What a scheduler does."""
        name = path.rsplit("/", 1)[1]
        self._ask("POST", f"{path}/binding", {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}, {})
        self._catch_up(RESOURCES["", "pods"], self._ask("GET", path, None, {}))

    def all(self, kind: str) -> list[Body]:
        """Every object of a kind in the world's namespaces."""
        resource = next(item for item in RESOURCES.values() if item.kind == kind)
        found = [item for name in NAMESPACES for item in self._ask("GET", _path(resource, name), None, {})["items"]]
        return [{"apiVersion": resource.api_version, "kind": kind, **item} for item in found]

    def collect(self) -> bool:
        """One step of the garbage collector, which the server alone does not have."""
        every = [(resource, item) for resource in self._watched for item in self.all(resource.kind)]
        alive = {item["metadata"]["uid"] for _, item in every}
        for resource, item in every:
            meta = item["metadata"]
            owners = meta.get("ownerReferences") or []
            if owners and "deletionTimestamp" not in meta and not alive & {owner["uid"] for owner in owners}:
                self.request("DELETE", _path(resource, meta["namespace"], meta["name"]))
                return True
        return False

    def _ask(self, method: str, path: str, body: Body | None, query: Mapping[str, str]) -> Body:
        target = path + (f"?{urlencode(query)}" if query else "")
        headers = self._headers | {"Content-Type": MERGE if method == "PATCH" else JSON}
        self._calls.request(method, target, None if body is None else json.dumps(body), headers)
        answer = self._calls.getresponse()
        found: Body = json.loads(answer.read() or b"{}")
        if answer.status >= 400:
            raise RefusalError(answer.status, found.get("reason", ""), found.get("message", ""))
        return found

    def _catch_up(self, resource: Resource, answer: Body) -> None:
        """Reads the kind's watch until it has brought what the answer says was done."""
        meta = answer.get("metadata", {})
        version = int(meta.get("resourceVersion") or 0)
        gone = (answer.get("details") or {}).get("uid")
        if "deletionTimestamp" in meta and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
            gone = meta["uid"]
        while self._seen[resource.kind] < version or gone is not None:
            change = self._next(resource)
            if change.type == "DELETED" and change.body["metadata"]["uid"] == gone:
                gone = None
            if change.body["metadata"]["namespace"] not in NAMESPACES:
                continue  # the server's own, which it makes at its beginning
            self.changes.append(change)
            for listener in list(self.on_change):
                listener(change)

    def _next(self, resource: Resource) -> Change:
        event = json.loads(self._watches[resource.kind].readline())
        version = self._seen[resource.kind] = int(event["object"]["metadata"]["resourceVersion"])
        return Change(version, event["type"], resource, event["object"])

    def _watch(self, resource: Resource) -> None:
        path = _path(resource)
        since = self._ask("GET", path, None, {"limit": "1"})["metadata"]["resourceVersion"]
        self._seen[resource.kind] = int(since)
        connection = self._connection()
        query = urlencode({"watch": "1", "resourceVersion": since, "timeoutSeconds": "3600"})
        connection.request("GET", f"{path}?{query}", None, self._headers)
        self._watches[resource.kind] = connection.getresponse()

    def _empty(self) -> None:
        """Removes what is there, whatever wants to be asked before."""
        for resource in self._watched:
            for item in self.all(resource.kind):
                path = _path(resource, item["metadata"]["namespace"], item["metadata"]["name"])
                with suppress(RefusalError):
                    if item["metadata"].get("finalizers"):
                        self._ask("PATCH", path, {"metadata": {"finalizers": None}}, {})
                    self._ask("DELETE", path, {"gracePeriodSeconds": 0}, {})

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._server.token}", "Accept": JSON}

    def _connection(self) -> http.client.HTTPSConnection:
        context = ssl._create_unverified_context()  # noqa: S323 - its certificate is a minute old
        host = urlsplit(self._server.url).netloc
        return http.client.HTTPSConnection(host, timeout=TIMEOUT_S, context=context)


def _path(resource: Resource, namespace: str = "", name: str = "") -> str:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{resource.plural}" + (f"/{name}" if name else "")
