"""What sessions are compared with: Kubernetes' own Jobs, and a loop that does nothing but make the same writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tests.integration.operator_parts import GROUP, campaign_body
from tests.performance.apiclient import ApiClient, until

LOOK_AHEAD = 5_000
CLIENTS = 16
STUCK_S = 300.0
_JOBS = "/apis/batch/v1/namespaces/default/jobs"
_SESSIONS = f"{GROUP}/default/callsessions"
_EVENTS = "/api/v1/namespaces/default/events"
_FINALIZER = "callfleet.dev/settle"
_STATES = ("Admitted", "Dialing", "InProgress", "Completed")


async def jobs_per_s(api: ApiClient, count: int) -> float:
    """Jobs finished and deleted a second, from the first one's creation; one pod each, which KWOK completes."""
    began = time.monotonic()
    gone = asyncio.create_task(_gone(api, _JOBS, count))
    left = iter(range(count))
    await _clients(lambda: _create_jobs(api, left))
    await gone
    return count / (time.monotonic() - began)


async def _create_jobs(api: ApiClient, left: Iterator[int]) -> None:
    for index in left:
        if index % 100 == 0:
            await until(lambda: _has_room(api), STUCK_S)
        await api.call("POST", _JOBS, _job(f"job-{index}"))


def _job(name: str) -> dict[str, Any]:
    container = {"name": "call", "image": "worker"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"ttlSecondsAfterFinished": 0, "backoffLimit": 0, "template": pod}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


async def _gone(api: ApiClient, path: str, count: int) -> None:
    """Waits until `count` objects have been created and none is left. Raises TimeoutError when nothing moves."""
    deleted, since = 0, time.monotonic()
    version = (await api.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
    while deleted < count:
        # An event for each deletion: finished ones may go before a poll has seen them, or between two watches.
        async for event in api.watch(path, {"timeoutSeconds": "60"}, since=version):
            version = event["object"]["metadata"]["resourceVersion"]
            deleted += event["type"] == "DELETED"
            since = time.monotonic() if event["type"] == "DELETED" else since
            if deleted >= count:
                return
        if time.monotonic() - since > STUCK_S:
            raise TimeoutError(f"{path}: {deleted} of {count} were deleted, and no more")


async def _has_room(api: ApiClient) -> bool:
    page = await api.call("GET", f"{_JOBS}?limit=1")
    return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0) < LOOK_AHEAD


async def bare_per_s(api: ApiClient, count: int, events: int) -> float:
    """Sessions a second when nobody thinks: the same writes of the same objects, one after the other for each.

    `events`: how many Events an operator's session has cost; nothing is watched, planned or paid.
    """
    owner = await api.call(
        "POST", f"{GROUP}/default/campaigns", campaign_body("default", "bare", suspend=True, contacts=_NOBODY)
    )
    left = iter(range(count))
    began = time.monotonic()
    await _clients(lambda: _bare(api, left, owner["metadata"]["uid"], events))
    return count / (time.monotonic() - began)


_NOBODY = {"listRef": {"name": "nobody"}}


async def _bare(api: ApiClient, left: Iterator[int], campaign_uid: str, events: int) -> None:
    for index in left:
        name = f"bare-1-{index:013d}"
        found = await api.call("POST", _SESSIONS, _session(name, campaign_uid))
        for state in _STATES:
            patch = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}, "status": _status(state)}
            found = await api.call("PATCH", f"{_SESSIONS}/{name}/status", patch)
        for _ in range(events):
            await api.call("POST", _EVENTS, _event(name, found["metadata"]["uid"]))
        await api.call("DELETE", f"{_SESSIONS}/{name}")
        await api.call("PATCH", f"{_SESSIONS}/{name}", {"metadata": {"finalizers": []}})


def _session(name: str, campaign_uid: str) -> dict[str, Any]:
    spec = {
        "campaign": "bare", "campaignUID": campaign_uid, "campaignGeneration": 1, "runID": "1",
        "contactID": "0192f0c4-0000-7000-8000-000000000000", "currency": "USD", "maxDurationSeconds": 300,
    }  # fmt: skip
    meta = {"name": name, "labels": {"callfleet.dev/campaign": "bare"}, "finalizers": [_FINALIZER]}
    return {"apiVersion": "callfleet.dev/v1alpha1", "kind": "CallSession", "metadata": meta, "spec": spec}


def _status(state: str) -> dict[str, Any]:
    condition = {
        "type": "Admitted", "status": "True", "reason": "MoneyHeld", "message": "0.09 held",
        "lastTransitionTime": "2026-11-22T09:00:00Z", "observedGeneration": 1,
    }  # fmt: skip
    attempt = {"id": "0192f0c5-0000-7000-8000-000000000000", "number": 1, "held": "0.09"}
    return {"state": state, "attempt": attempt, "worker": "pool-0", "podUID": attempt["id"], "conditions": [condition]}


def _event(name: str, uid: str) -> dict[str, Any]:
    involved = {
        "apiVersion": "callfleet.dev/v1alpha1", "kind": "CallSession", "namespace": "default", "name": name, "uid": uid,
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": f"{name}."}, "involvedObject": involved,
        "reason": "Admitted", "message": "0.09 held", "type": "Normal", "count": 1,
    }  # fmt: skip


async def _clients(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(work())
