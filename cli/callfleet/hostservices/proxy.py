"""A reverse proxy that asks for a bearer token, for a server that has no passwords of its own (Ollama).

Its own process: `python -m callfleet.hostservices.proxy HOST PORT UPSTREAM`, the token in CALLFLEET_PROXY_TOKEN.
"""

import hmac
import os
import sys

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web

MAX_BODY_BYTES = 4 * 1024 * 1024
UPSTREAM_TIMEOUT_S = 120.0
MAX_CONNECTIONS = 64
TOKEN_VARIABLE = "CALLFLEET_PROXY_TOKEN"  # noqa: S105 - the variable's name, not a token
# Headers that belong to one connection (RFC 9110, section 7.6.1), and what the proxy sets itself.
NOT_FORWARDED = frozenset(
    {"authorization", "connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def is_allowed(header: str | None, token: str) -> bool:
    """Whether an Authorization header carries the token; compared in constant time."""
    scheme, _, given = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


class BearerProxy:
    """Forwards every authorized request to `upstream` and streams the answer back."""

    def __init__(self, upstream: str, token: str) -> None:
        self._upstream = upstream.rstrip("/")
        self._token = token
        self._session: ClientSession | None = None

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _: web.Application) -> None:
        self._session = ClientSession(
            timeout=ClientTimeout(total=UPSTREAM_TIMEOUT_S),
            connector=TCPConnector(limit=MAX_CONNECTIONS),
            auto_decompress=False,
        )

    async def _close(self, _: web.Application) -> None:
        if self._session is not None:
            await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if not is_allowed(request.headers.get("Authorization"), self._token):
            return web.json_response({"error": "a bearer token is needed"}, status=401)
        if self._session is None:
            return web.json_response({"error": "the proxy is starting"}, status=503)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in NOT_FORWARDED}
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.path_qs,
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in NOT_FORWARDED}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (ClientError, TimeoutError) as error:
            return web.json_response({"error": f"upstream: {type(error).__name__}"}, status=502)


def main() -> None:
    """Serve until a signal."""
    host, port, upstream = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    proxy = BearerProxy(upstream, os.environ.pop(TOKEN_VARIABLE))
    web.run_app(proxy.application(), host=host, port=port, print=None, access_log=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
