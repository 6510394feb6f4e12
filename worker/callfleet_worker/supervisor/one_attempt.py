"""`python -m callfleet_worker --attempt UUID --pod-uid UID`: one granted attempt, without Kubernetes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from callfleet_worker.settings import WorkerSettings
from callfleet_worker.supervisor.call_processes import CallProcess
from callfleet_worker.supervisor.services import speech_services

READY_TIMEOUT_S = 180.0


async def run_one(settings: WorkerSettings, attempt_id: UUID, pod_uid: str) -> dict[str, Any]:
    """Runs the attempt through the same servers and call process as a pod would; answers the `ended` event."""
    with tempfile.TemporaryDirectory(prefix="callfleet-") as temporary:
        run_dir = settings.callfleet_run_dir or Path(temporary)
        services = speech_services(settings, run_dir)
        keeping = [asyncio.create_task(service.run()) for service in services]
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                process = await CallProcess.spawn(run_dir)
                for service in services:
                    await service.ready.wait()
            return await _follow(process, attempt_id, pod_uid)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)


async def _follow(process: CallProcess, attempt_id: UUID, pod_uid: str) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stopping.append(asyncio.ensure_future(process.stop())))
    last: dict[str, Any] = {}
    try:
        await process.assign(attempt_id, pod_uid)
        async for event in process.events():
            last = event
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()
    finally:
        await process.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*stopping)
    return last
