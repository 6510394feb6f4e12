"""What a server was asked and what it answered, so that two servers can be compared: identities become their order."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_operator.apiserver import ConflictError, RefusedError
from callfleet_operator.kube import Kube

MERGE, JSON = "application/merge-patch+json", "application/json"
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMES = {"creationTimestamp", "deletionTimestamp"}

Watch = Callable[[str, str], AsyncIterator[dict[str, Any]]]


@dataclass
class Asker:
    """Asks one server, through the client that Kube uses; `lines` is what came of it."""

    api: Any
    watch: Watch
    lines: list[Any] = field(default_factory=list)

    @property
    def kube(self) -> Kube:
        """The operator's own module, over the same client."""
        return Kube(self.api)

    async def ask(self, method: str, path: str, body: Any = None, kind: str = JSON, **query: str) -> dict[str, Any]:
        """One call; a refusal is an answer, too."""
        try:
            answer: dict[str, Any] = await self.api.call_api(
                path, method, query_params=list(query.items()), body=body, auth_settings=["BearerToken"],
                header_params={"Accept": JSON, "Content-Type": MERGE if method == "PATCH" else kind},
                response_types_map={200: "object", 201: "object", 202: "object"}, _return_http_data_only=True,
            )  # fmt: skip
        except ApiException as error:
            answer = {"refused": error.status, "reason": json.loads(error.body or "{}").get("reason")}
        self.lines.append([method, path, copy.deepcopy(answer)])
        return answer

    async def tell(self, name: str, call: Awaitable[Any]) -> Any:
        """One call of Kube's; what it raises is an answer, too."""
        try:
            answer = await call
        except (ConflictError, RefusedError) as error:
            answer = type(error).__name__
        except ApiException as error:
            answer = f"ApiException {error.status}"
        self.lines.append([name, copy.deepcopy(answer)])
        return answer

    async def events(self, path: str, since: str, count: int) -> None:
        """What a watch brings since a resourceVersion; so many events are awaited."""
        found = []
        async with asyncio.timeout(10):
            async for event in self.watch(path, since):
                found.append([event["type"], event["object"]])
                if len(found) == count:
                    break
        self.lines.append(["watch", path, found])

    def transcript(self) -> list[Any]:
        """The lines, without what two servers never agree about."""
        versions = sorted({int(item) for item in _versions(self.lines)})
        order = {str(version): f"version-{index}" for index, version in enumerate(versions)}
        uids: dict[str, str] = {}
        done: list[Any] = _normal(self.lines, order, uids)
        return done


def _versions(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in _versions(item)]
    if isinstance(value, dict):
        own = [value["resourceVersion"]] if isinstance(value.get("resourceVersion"), str) else []
        return own + [found for item in value.values() for found in _versions(item)]
    return []


def _normal(value: Any, order: dict[str, str], uids: dict[str, str]) -> Any:
    if isinstance(value, list | tuple):
        return [_normal(item, order, uids) for item in value]
    if isinstance(value, dict):
        kept = {key: item for key, item in sorted(value.items()) if key not in {"managedFields", "continue"}}
        if value.get("kind") == "Pod" or "containers" in (value.get("spec") or {}):
            kept.pop("spec", None)  # dozens of defaults, none of which the operator reads
        for name in ("lastProbeTime", "lastTransitionTime"):
            if name in kept and kept[name] is None:  # typed objects show what was never set
                del kept[name]
        if value.get("status") == "Success":
            return {"status": "Success"}
        return {key: _normal_field(key, item, order, uids) for key, item in kept.items()}
    if isinstance(value, str):
        return _UID.sub(lambda match: uids.setdefault(match[0], f"uid-{len(uids)}"), order.get(value, value))
    return value


def _normal_field(key: str, item: Any, order: dict[str, str], uids: dict[str, str]) -> Any:
    if key in _TIMES and isinstance(item, str):
        return "a time"
    if key == "qosClass":
        return "by its resources"
    return _normal(item, order, uids)
