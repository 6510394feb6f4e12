"""Child processes that must always run (the speech servers): started, watched, restarted with growing pauses."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from callfleet_worker.settings import WorkerSettings

READY_TIMEOUT_S = 180.0
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
STABLE_AFTER_S = 60.0
STOP_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)


class ModelMissingError(Exception):
    """A model is not where CALLFLEET_MODELS_DIR says; bake it into the image or mount it there."""


class Service:
    """One child that prints `ready` when it serves. `run` keeps it alive until it is cancelled."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self._command = name, list(command)
        self.ready = asyncio.Event()
        self.restarts = 0

    async def run(self) -> None:
        """Starts it, again and again; the pause doubles up to 30 s and is forgotten after a minute's good service."""
        pause_s = FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            await self._once()
            lived_s = asyncio.get_running_loop().time() - started
            pause_s = FIRST_PAUSE_S if lived_s >= STABLE_AFTER_S else min(MAX_PAUSE_S, pause_s * 2)
            self.restarts += 1
            _log.error("a speech process ended and is started again", service=self.name, pause_s=pause_s)
            await asyncio.sleep(pause_s)

    async def _once(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            if process.stdout is None:
                raise RuntimeError("the child has no stdout")
            line = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_TIMEOUT_S):
                    line = await process.stdout.readline()
            if line.strip() == b"ready":
                self.ready.set()
                await process.wait()
        finally:
            self.ready.clear()
            await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL after 5 s."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def speech_services(settings: WorkerSettings, run_dir: Path) -> tuple[Service, Service]:
    """The Whisper and the Piper service on sockets in `run_dir`. Raises ModelMissingError."""
    for path in (settings.whisper_dir / "model.bin", settings.piper_voice):
        if not path.is_file():
            raise ModelMissingError(f"{path} is missing: set CALLFLEET_MODELS_DIR to the folder of the models")
    module = [sys.executable, "-m"]
    whisper = [
        *module, "callfleet_worker.speech.whisper_server", "--socket", str(whisper_socket(run_dir)),
        "--model", str(settings.whisper_dir), "--device", settings.callfleet_device,
        "--replicas", str(settings.callfleet_stt_replicas),
    ]  # fmt: skip
    piper = [
        *module, "callfleet_worker.speech.piper_server", "--socket", str(piper_socket(run_dir)),
        "--voice", str(settings.piper_voice),
    ]  # fmt: skip
    return Service("whisper", whisper), Service("piper", piper)


def whisper_socket(run_dir: Path) -> Path:
    """Where the recogniser listens."""
    return run_dir / "whisper.sock"


def piper_socket(run_dir: Path) -> Path:
    """Where the voice listens."""
    return run_dir / "piper.sock"
