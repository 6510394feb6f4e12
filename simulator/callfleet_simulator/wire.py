"""The tiny protocol between the simulator and its speech processes: a JSON header and bytes, both ways."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from callfleet_simulator.errors import SpeechError

_LENGTHS = struct.Struct("!II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024

Header = dict[str, Any]
Frame = tuple[Header, bytes]


def pack(header: Header, payload: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


def _lengths(head: bytes) -> tuple[int, int]:
    header, payload = _LENGTHS.unpack(head)
    if header > MAX_HEADER_BYTES or payload > MAX_PAYLOAD_BYTES:
        raise SpeechError("a speech process sent a frame beyond the protocol's bounds")
    return header, payload


async def read(stream: asyncio.StreamReader) -> Frame:
    """The next frame. Raises asyncio.IncompleteReadError when the other side has gone."""
    header, payload = _lengths(await stream.readexactly(_LENGTHS.size))
    text = await stream.readexactly(header)
    return json.loads(text), await stream.readexactly(payload)


def _read_blocking(stream: BinaryIO) -> Frame | None:
    head = stream.read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    header, payload = _lengths(head)
    return json.loads(stream.read(header)), stream.read(payload)


def serve(prepare: Callable[[], Callable[[Header, bytes], Frame]]) -> None:
    """A speech process's main loop: answers frames from stdin on stdout until stdin closes.

    Ends with its parent, even a killed one: the pipe closes. What libraries print goes to stderr.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.nice(5)  # audio on the wire goes before people's thoughts
    handle = prepare()
    out.write(pack({"ready": True}))
    out.flush()
    while (frame := _read_blocking(sys.stdin.buffer)) is not None:
        out.write(pack(*handle(*frame)))
        out.flush()
