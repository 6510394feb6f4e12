"""A bounded request server on a Unix socket: a queue in front of a few threads that do the heavy work."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from callfleet_worker.speech import wire

MAX_WAITING = 32
Work = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]

_log = structlog.get_logger(__name__)


class UnixServer:
    """Runs `work` for each request, `threads` at a time; one whose client left or whose deadline passed is dropped."""

    def __init__(self, path: Path, work: Work, *, threads: int) -> None:
        self._path, self._work = path, work
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="speech")
        self._slots = asyncio.Semaphore(threads)
        self._waiting = 0

    async def run_until_stopped(self) -> None:
        """Serves until SIGTERM or SIGINT."""
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        self._path.unlink(missing_ok=True)
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_unix_server(accept, path=self._path)
        self._path.chmod(0o600)
        async with server:
            await stopped.wait()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            header, payload = await wire.receive(reader)
            answer, audio = await self._answer(reader, header, payload)
            await wire.send(writer, answer, audio)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away: its request is void
        except wire.WireError as error:
            _log.warning("a speech request was malformed", error=str(error))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, reader: asyncio.StreamReader, header: dict[str, Any], payload: bytes
    ) -> tuple[dict[str, Any], bytes]:
        if header.get("op") == "ping":
            return {"ok": True, "waiting": self._waiting}, b""
        if self._waiting >= MAX_WAITING:
            return {"error": "busy"}, b""
        self._waiting += 1
        gone = asyncio.ensure_future(reader.read(1))
        waiting = asyncio.ensure_future(self._slots.acquire())
        try:
            async with asyncio.timeout(float(header.get("deadline_s", 10.0))):
                await asyncio.wait({gone, waiting}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        if not waiting.done() or gone.done():
            _give_back(waiting, self._slots)
            gone.cancel()
            return {"error": "late"}, b""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, header, payload)
        except ValueError as error:
            return {"error": str(error)}, b""
        finally:
            self._slots.release()
            gone.cancel()


def _give_back(waiting: asyncio.Future[Any], slots: asyncio.Semaphore) -> None:
    if waiting.done() and not waiting.cancelled():
        slots.release()
    else:
        waiting.cancel()
