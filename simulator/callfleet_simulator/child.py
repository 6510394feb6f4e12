"""A speech process, as its parent sees it: started, asked, restarted when it dies, stopped."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

import structlog

from callfleet_simulator import wire
from callfleet_simulator.errors import SpeechError

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
MAX_RESTARTS = 3


class SpeechChild:
    """`python -m <module> <arguments>` behind the wire protocol; one request at a time."""

    def __init__(self, module: str, *arguments: str, threads: int = 1) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._name = module.rpartition(".")[2]
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._restarts = 0

    async def start(self) -> None:
        """Starts it and waits until its model is loaded. Raises SpeechError."""
        # start_new_session: a Ctrl-C at the terminal is the parent's to handle, which then ends this one.
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, env=self._environment, start_new_session=True
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._read()
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            await self.aclose()
            raise SpeechError(f"{self._name} did not start: its message is above; are the models there?") from error

    async def aclose(self) -> None:
        """Closes its stdin, which ends it; kills it if that does not."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ask(self, header: wire.Header, payload: bytes = b"", timeout_s: float = 30.0) -> wire.Frame:
        """One request and its answer. Raises SpeechError when it cannot be had.

        Who no longer wants the answer goes; the request ends by itself, and the next one waits for that.
        """
        await self._turn.acquire()
        asking = asyncio.create_task(self._in_turn(header, payload, timeout_s))
        asking.add_done_callback(_taken_note_of)
        return await asyncio.shield(asking)

    async def _in_turn(self, header: wire.Header, payload: bytes, timeout_s: float) -> wire.Frame:
        try:
            return await self._ask(header, payload, timeout_s)
        except BaseException:
            # Its answer is no longer in step with the requests: a new process is.
            if self._process is not None:
                await self._restart()
            raise
        finally:
            self._turn.release()

    async def _ask(self, header: wire.Header, payload: bytes, timeout_s: float) -> wire.Frame:
        if self._process is None or self._process.stdin is None:
            raise SpeechError(f"{self._name} is not running")
        try:
            async with asyncio.timeout(timeout_s):
                self._process.stdin.write(wire.pack(header, payload))
                await self._process.stdin.drain()
                return await self._read()
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise SpeechError(f"{self._name} gave no answer: {type(error).__name__}") from error

    async def _read(self) -> wire.Frame:
        if self._process is None or self._process.stdout is None:
            raise SpeechError(f"{self._name} is not running")
        return await wire.read(self._process.stdout)

    async def _restart(self) -> None:
        await self.aclose()
        if self._restarts >= MAX_RESTARTS:
            log.error("speech process given up", process=self._name, restarts=self._restarts)
            return
        self._restarts += 1
        log.warning("speech process restarted", process=self._name, restarts=self._restarts)
        await self.start()


def _taken_note_of(asking: asyncio.Task[wire.Frame]) -> None:
    """Whoever asked and went on does not fetch the error: the restart was logged."""
    if not asking.cancelled():
        asking.exception()
