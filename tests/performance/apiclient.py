"""Calls of an API server at a pace that the kubernetes package would not keep: aiohttp and JSON, nothing else."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from tests.integration.apiserver import ApiServer

MERGE = "application/merge-patch+json"
CONNECTIONS = 128
POLL_S = 0.2


class ApiClient:
    """One pool of connections."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def call(self, method: str, path: str, body: Any = None, *, gone_is_fine: bool = False) -> dict[str, Any]:
        """One call; a 404 or 409 answers {} where that `gone_is_fine`. Raises aiohttp's errors."""
        kind = MERGE if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, data=data, headers={"Content-Type": kind}) as answer:
            if gone_is_fine and answer.status in {404, 409}:
                return {}
            text = await answer.text()
            if answer.status >= 400:
                raise aiohttp.ClientError(f"{method} {path}: {answer.status} {text[:500]}")
            found: dict[str, Any] = json.loads(text)
            return found

    async def watch(self, path: str, query: dict[str, str], since: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """The events of one watch until the server ends it: `since` a version, or of what there is, first, as ADDED."""
        if since is None:
            async with self._session.get(path, params=query) as answer:
                listed = await answer.json()
            for item in listed["items"]:
                yield {"type": "ADDED", "object": item}
            since = listed["metadata"]["resourceVersion"]
        query = query | {"watch": "1", "resourceVersion": str(since)}
        async with self._session.get(path, params=query, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                yield json.loads(line)


async def until(look: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Waits for what the world has no event for. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not await look():  # noqa: ASYNC110  # see above
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def api_client(server: ApiServer) -> AsyncIterator[ApiClient]:
    """A client with an administrator's token."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate is a minute old
    async with aiohttp.ClientSession(
        server.url,
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context),
        headers={"Authorization": f"Bearer {server.token}", "Accept": "application/json"},
    ) as session:
        yield ApiClient(session)
