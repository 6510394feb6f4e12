"""The worker's only module that talks to Kubernetes: its own sessions in, their progress out.

Watches CallSessions with `status.worker=<this pod>`; status writes are compare-and-set on resourceVersion.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast
from uuid import UUID

import aiohttp
import structlog
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException

from callfleet_core.api import GROUP, VERSION

PLURAL = "callsessions"
WATCH_SERVER_S = 240
WATCH_CLIENT_S = 270
REQUEST_S = 15
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 10.0
WRITE_TRIES = 5
GONE, CONFLICT, NOT_FOUND = 410, 409, 404
_MERGE_PATCH = "application/merge-patch+json"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BoundSession:
    """A session as far as a worker needs it."""

    name: str
    namespace: str
    state: str
    attempt_id: UUID
    pod_uid: str
    resource_version: str
    conditions: list[dict[str, Any]] = field(default_factory=list)


def bound_session(item: dict[str, Any]) -> BoundSession | None:
    """Reads an object; nothing when it is not bound to an attempt."""
    status = item.get("status") or {}
    attempt = (status.get("attempt") or {}).get("id")
    if not attempt or not status.get("podUID"):
        return None
    meta = item["metadata"]
    return BoundSession(
        meta["name"], meta["namespace"], status.get("state", "Pending"), UUID(attempt), status["podUID"],
        meta["resourceVersion"], list(status.get("conditions") or []),
    )  # fmt: skip


def progress_patch(
    session: BoundSession, state: Literal["Dialing", "InProgress"], call_sid: str | None, now: datetime
) -> dict[str, Any]:
    """The status patch for a call's progress; conditions are replaced whole, so the others are kept."""
    status: dict[str, Any] = {"state": state}
    if call_sid is not None:
        status["callSID"] = call_sid
    if state == "InProgress":
        connected = {
            "type": "Connected", "status": "True", "reason": "Answered", "message": "The person picked up.",
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        status["conditions"] = [other for other in session.conditions if other.get("type") != "Connected"] + [connected]
    return {"metadata": {"resourceVersion": session.resource_version}, "status": status}


class SessionWatch:
    """This pod's sessions."""

    def __init__(self, api: client.ApiClient, namespace: str, pod_name: str) -> None:
        self._api, self._namespace = api, namespace
        self._objects: Any = client.CustomObjectsApi(api)  # its types lack _content_type
        self._selector = f"status.worker={pod_name}"
        # Word from the API server, or a try that failed: one that is away ends no call of this pod.
        self.last_sign_at: float | None = None

    @classmethod
    async def connect(cls, namespace: str, pod_name: str) -> Self:
        """By the pod's service account, or by KUBECONFIG elsewhere."""
        try:
            cast("Callable[[], None]", config.load_incluster_config)()
        except config.ConfigException:
            # Named here, for the library reads KUBECONFIG once, when it is imported.
            await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        return cls(client.ApiClient(), namespace, pod_name)

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def sessions(self) -> AsyncIterator[BoundSession]:
        """Every version of every bound session, for ever: list, watch, and list again after a 410 or any failure."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async for session in self._list_and_watch():
                    pause_s = FIRST_PAUSE_S
                    yield session
            except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error, ApiException) and error.status == GONE:
                    continue
                self._lives()
                _log.warning("watching sessions failed", error=_name(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, pause_s * 2)

    async def _list_and_watch(self) -> AsyncIterator[BoundSession]:
        listed = await self._objects.list_namespaced_custom_object(
            GROUP, VERSION, self._namespace, PLURAL, field_selector=self._selector, _request_timeout=REQUEST_S
        )
        self._lives()
        for item in listed["items"]:
            if session := bound_session(item):
                yield session
        version = listed["metadata"]["resourceVersion"]
        while True:
            async with watch.Watch() as stream:
                events = stream.stream(
                    self._objects.list_namespaced_custom_object,
                    GROUP, VERSION, self._namespace, PLURAL,
                    field_selector=self._selector, resource_version=version, allow_watch_bookmarks=True,
                    timeout_seconds=WATCH_SERVER_S, _request_timeout=WATCH_CLIENT_S,
                )  # fmt: skip
                async for event in events:
                    self._lives()
                    version = event["raw_object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED") and (session := bound_session(event["raw_object"])):
                        yield session
            self._lives()

    async def report(
        self, name: str, attempt_id: UUID, state: Literal["Dialing", "InProgress"], call_sid: str | None
    ) -> bool:
        """Writes a call's progress; false when the session has moved on without us, which the ledger's truth allows."""
        for _ in range(WRITE_TRIES):
            try:
                item = await self._objects.get_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, PLURAL, name, _request_timeout=REQUEST_S
                )
                session = bound_session(item)
                if session is None or session.attempt_id != attempt_id or not _precedes(session.state, state):
                    return False
                await self._objects.patch_namespaced_custom_object_status(
                    GROUP, VERSION, self._namespace, PLURAL, name,
                    progress_patch(session, state, call_sid, datetime.now(UTC)),
                    _content_type=_MERGE_PATCH, _request_timeout=REQUEST_S,
                )  # fmt: skip
                return True
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return False
                if error.status != CONFLICT:
                    _log.warning("a session's progress could not be written", session=name, error=_name(error))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.warning("a session's progress could not be written", session=name, error=_name(error))
            await asyncio.sleep(FIRST_PAUSE_S)
        return False

    def _lives(self) -> None:
        self.last_sign_at = asyncio.get_running_loop().time()


def _precedes(state: str, following: str) -> bool:
    order = ["Admitted", "Dialing", "InProgress"]
    return state in order and order.index(state) < order.index(following)


def _name(error: Exception) -> str:
    return f"HTTP {error.status}" if isinstance(error, ApiException) else type(error).__name__
