"""What travels over the speech sockets: one request and one answer a connection, each a JSON header and raw PCM.

A client that goes away cancels its request: the server sees the end of the stream and drops it from its queue.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

_LENGTHS = struct.Struct("!II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""Eight minutes of 16 kHz PCM16: more than any utterance."""


class WireError(Exception):
    """The other side broke the protocol or its bounds; the connection is of no further use."""


async def send(writer: asyncio.StreamWriter, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one message."""
    text = json.dumps(header).encode()
    if len(text) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError("a speech message is larger than its bound")
    writer.write(_LENGTHS.pack(len(text), len(payload)) + text + payload)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """Reads one message. Raises WireError on a broken one and IncompleteReadError when the other side is gone."""
    header_bytes, payload_bytes = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireError("a speech message is larger than its bound")
    try:
        header = json.loads(await reader.readexactly(header_bytes))
    except ValueError as error:
        raise WireError("a speech message's header is not JSON") from error
    if not isinstance(header, dict):
        raise WireError("a speech message's header is not an object")
    return header, await reader.readexactly(payload_bytes)
