"""The pod's main program: keeps speech and call processes, takes sessions while it may, drains on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from callfleet_worker.settings import WorkerSettings
from callfleet_worker.supervisor.call_processes import CallProcess, CallProcessError
from callfleet_worker.supervisor.health import health_server
from callfleet_worker.supervisor.kube import BoundSession, SessionWatch
from callfleet_worker.supervisor.load import Allowance, Load
from callfleet_worker.supervisor.metrics import WorkerMetrics
from callfleet_worker.supervisor.pool import CallPool
from callfleet_worker.supervisor.services import ModelMissingError, Service, speech_services

EXIT_OK, EXIT_BAD_SETTINGS = 0, 2
WATCH_STUCK_S = 600.0
MAX_SEEN = 10_000
IDLE_WAIT_S = 60.0

_log = structlog.get_logger(__name__)


class Supervisor:
    """Hands each session that is bound to this pod to an idle call process and reports its progress."""

    def __init__(self, settings: WorkerSettings, kube: SessionWatch, run_dir: Path) -> None:
        self._settings, self._kube = settings, kube
        self._services: tuple[Service, ...] = speech_services(settings, run_dir)
        self._pool = CallPool(settings.callfleet_slots, lambda: CallProcess.spawn(run_dir))
        self._load = Load(
            Allowance(
                cores=settings.callfleet_cpu_millis / 1000 if settings.callfleet_cpu_millis else None,
                memory_bytes=settings.callfleet_memory_bytes,
            )
        )
        self.metrics = WorkerMetrics()
        self.metrics.slots.set(settings.callfleet_slots)
        self.metrics.idle.set_function(lambda: self._pool.idle)
        self.metrics.active.set_function(lambda: self._pool.busy)
        self.metrics.processor.set_function(lambda: self._load.processor)
        self.metrics.memory.set_function(lambda: self._load.memory)
        self._seen: dict[UUID, None] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._draining = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`, then waits for live calls, at most the drain time."""
        settings = self._settings
        keeping: list[asyncio.Task[Any]] = []
        async with health_server(
            settings.pod_ip,
            settings.callfleet_worker_port,
            alive=self._alive,
            ready=self.missing,
            registry=self.metrics.registry,
        ):
            try:
                keeping += [self._keep(service.run()) for service in self._services]
                for service in self._services:
                    await _first(service.ready, stop)
                keeping += [self._keep(self._pool.keep_filled()), self._keep(self._load.watch())]
                watching = self._keep(self._watch())
                keeping.append(watching)
                await stop.wait()
                self._draining = True
                watching.cancel()
                await self._drain()
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, *self._calls, return_exceptions=True)
                await self._pool.close()

    def missing(self) -> str | None:
        """What keeps this pod from taking a call, or nothing."""
        for service in self._services:
            self.metrics.restarts.labels(service.name).set(service.restarts)
            if not service.ready.is_set():
                return f"{service.name} is not ready"
        if self._draining:
            return "draining"
        if self._pool.idle == 0 and self._pool.busy == 0:
            return "no idle call process"
        return self._load.full

    def _alive(self) -> bool:
        last = self._kube.last_sign_at
        return last is None or asyncio.get_running_loop().time() - last < WATCH_STUCK_S

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    async def _watch(self) -> None:
        async for session in self._kube.sessions():
            if self._claims(session):
                self._remember(session.attempt_id)
                task = asyncio.create_task(self._call(session))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)

    def _claims(self, session: BoundSession) -> bool:
        """Admitted to this very pod, and not yet taken; a pod of the same name before us had another UID."""
        return (
            session.state == "Admitted"
            and session.pod_uid == self._settings.pod_uid
            and session.attempt_id not in self._seen
            and not self._draining
        )

    def _remember(self, attempt_id: UUID) -> None:
        self._seen[attempt_id] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.pop(next(iter(self._seen)))

    async def _call(self, session: BoundSession) -> None:
        """One attempt from claim to end; an attempt that finds no process expires, and the operator repairs it."""
        process = await self._pool.acquire(IDLE_WAIT_S)
        if process is None:
            _log.error("no call process for a bound session", attempt=str(session.attempt_id))
            self.metrics.calls.labels("noProcess").inc()
            return
        answered_at: float | None = None
        try:
            await process.assign(session.attempt_id, self._settings.pod_uid)
            async for event in process.events():
                if event["event"] == "answered":
                    answered_at = time.monotonic()
                await self._on_event(session, event)
        except CallProcessError as error:
            _log.error("a call process failed", attempt=str(session.attempt_id), error=str(error))
            self.metrics.calls.labels("died").inc()
        finally:
            await process.stop()
            self._pool.release()
            if answered_at is not None:
                self.metrics.duration.observe(time.monotonic() - answered_at)

    async def _on_event(self, session: BoundSession, event: dict[str, Any]) -> None:
        match event["event"]:
            case "dialing":
                await self._kube.report(session.name, session.attempt_id, "Dialing", None)
            case "answered":
                await self._kube.report(session.name, session.attempt_id, "InProgress", event.get("call_sid"))
            case "ended":
                self.metrics.calls.labels(str(event.get("end"))).inc()
                latency = (event.get("outcome") or {}).get("latency_ms_p50")
                if latency is not None:
                    self.metrics.turn_latency.set(latency)
                _log.info(
                    "attempt ended",
                    attempt=str(session.attempt_id),
                    session=session.name,
                    end=event.get("end"),
                    reason=event.get("reason"),
                )

    async def _drain(self) -> None:
        if not self._calls:
            return
        _log.info("draining", calls=len(self._calls), at_most_s=self._settings.callfleet_drain_s)
        _, late = await asyncio.wait(self._calls, timeout=self._settings.callfleet_drain_s)
        for task in late:
            task.cancel()


async def _first(ready: asyncio.Event, stop: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(ready.wait()), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def supervise(settings: WorkerSettings) -> int:
    """The process's exit code."""
    if not (settings.pod_name and settings.pod_namespace and settings.pod_uid):
        _log.error("POD_NAME, POD_NAMESPACE and POD_UID are missing: run as a pod, or use --attempt")
        return EXIT_BAD_SETTINGS
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="callfleet-") as temporary:
        run_dir = settings.callfleet_run_dir or Path(temporary)
        kube = await SessionWatch.connect(settings.pod_namespace, settings.pod_name)
        try:
            await Supervisor(settings, kube, run_dir).run(stop)
        except ModelMissingError as error:
            _log.error(str(error))
            return EXIT_BAD_SETTINGS
        finally:
            await kube.close()
    return EXIT_OK
