"""A TCP proxy in front of PostgreSQL that cuts connections at chosen moments."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

LOOPBACK = "127.0.0.1"
# before: the request is not sent. sent: it is, and nobody waits. answered: the server has answered (a COMMIT: it is
# committed), and the client does not hear it. middle: it hears half.
CUTS = ("before", "sent", "answered", "middle")
CUT_A_REQUEST = 0.0015
CUT_A_COMMIT = 0.008
_STARTUP = 3 << 16  # the protocol's version, where other messages have none


class _Server(asyncio.Protocol):
    """The connection to PostgreSQL, for one client."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.connected(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._client.answer(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.end()


class _Client(asyncio.Protocol):
    """A client's connection. Messages are small and answered one by one, so that nothing piles up here."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._waiting: list[bytes] = []
        self._server: asyncio.Transport | None = None
        self._cut: str | None = None
        self._opening: asyncio.Task[None] | None = None
        self._swallowed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._proxy.clients.add(self)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        if self._is_swallowed():
            return
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Server(self), LOOPBACK, self._proxy.leads_to)
        except OSError:  # the server is being restarted: the client hears that nobody listens
            self.end()

    def _is_swallowed(self, sent: bytes = b"") -> bool:
        """In a silent network; a connection that lost something there stays dead, and nobody is told."""
        swallows = self._proxy.swallows
        self._swallowed = self._swallowed or (swallows is not None and swallows in sent)
        return self._swallowed

    def connected(self, server: asyncio.Transport) -> None:
        self._server = server
        for data in self._waiting:
            server.write(data)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._is_swallowed(data):
            return
        if self._proxy.without_options:
            data = without_options(data)
        if self._server is None:
            self._waiting.append(data)
            return
        self._cut = self._cut or self._proxy.choose(data)
        if self._cut != "before":
            self._server.write(data)
        if self._cut == "sent":
            self._server.close()  # after what was written has been sent
            self._transport.abort()
        elif self._cut == "before":
            self.end()

    def answer(self, data: bytes) -> None:
        """What PostgreSQL said."""
        if self._is_swallowed():
            return
        if self._cut is None:
            self._transport.write(data)
            return
        if self._cut == "middle":
            self._transport.write(data[: len(data) // 2])
            self._transport.close()
        self.end(politely=self._cut == "middle")

    def end(self, *, politely: bool = False) -> None:
        """Ends both connections."""
        if self._is_swallowed():
            return
        if self._server is not None:
            self._server.abort()
        if not politely:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._proxy.clients.discard(self)
        if self._is_swallowed():
            self._proxy.left_behind.append(self._server)  # the server does not hear of it either
        elif self._server is not None:
            self._server.close()


def without_options(data: bytes) -> bytes:
    """A startup message without its `options`, as PgBouncer's ignore_startup_parameters has it; all else as it is."""
    if len(data) < 8 or struct.unpack_from("!ii", data) != (len(data), _STARTUP):
        return data
    words = data[8:].rstrip(b"\0").split(b"\0")
    pairs = zip(words[::2], words[1::2], strict=True)
    body = b"".join(name + b"\0" + value + b"\0" for name, value in pairs if name != b"options") + b"\0"
    return struct.pack("!ii", 8 + len(body), _STARTUP) + body


class Proxy:
    """The proxy's address, and how often it cut; `cutting` is switched off while nothing may go wrong.

    It leads to the server at `leads_to`, as a service's name would. What has the bytes of `swallows` in it (b"": all)
    is swallowed, and whatever follows it on its connection.
    """

    def __init__(self, server_port: int, seed: str) -> None:
        self.leads_to = server_port
        self._random = random.Random(seed)  # noqa: S311  # a test's choices, not a secret
        self._loop = uvloop.new_event_loop()
        self.cuts: Counter[str] = Counter()
        self.cutting = True
        self.swallows: bytes | None = None
        self.without_options = False
        self.port = 0
        self.clients: set[_Client] = set()
        self.left_behind: list[asyncio.Transport | None] = []

    def choose(self, data: bytes) -> str | None:
        """Whether, and how, the connection is cut at this request."""
        likely = CUT_A_COMMIT if b"COMMIT" in data else CUT_A_REQUEST
        if not self.cutting or self._random.random() >= likely:
            return None
        cut = self._random.choice(CUTS)
        self.cuts[cut] += 1
        return cut

    def cut_all(self) -> None:
        """Ends every connection that there is."""
        self._loop.call_soon_threadsafe(self._end_all)

    def _end_all(self) -> None:
        for client in tuple(self.clients):
            client.end()

    def serve(self, ready: threading.Event) -> None:
        """Serves until stopped; in a thread of its own."""
        asyncio.set_event_loop(self._loop)
        listening = socket.create_server((LOOPBACK, 0))
        self.port = listening.getsockname()[1]
        serving = self._loop.create_server(lambda: _Client(self), sock=listening)
        server = self._loop.run_until_complete(serving)
        ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def stop(self) -> None:
        """Ends `serve`."""
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def proxy(server_port: int, seed: str) -> Iterator[Proxy]:
    """A proxy that listens while the block runs."""
    served, ready = Proxy(server_port, seed), threading.Event()
    thread = threading.Thread(target=served.serve, args=(ready,), name="proxy")
    thread.start()
    try:
        if not ready.wait(10):
            raise TimeoutError("the proxy did not begin to listen within 10 s")
        yield served
    finally:
        served.stop()
        thread.join(10)
