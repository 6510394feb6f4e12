"""Requests to the API server: through a token bucket, told again when it is busy, refused as errors with names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from aiohttp.helpers import get_env_proxy_for_url
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException
from yarl import URL

from callfleet_core.errors import CallFleetError

# A call costs seven (docs/decisions/0024); the API server's own fairness protects it from more than it can take.
WRITES_PER_SECOND = 1000.0
BURST = 2000.0
REQUEST_TIMEOUT_S = 15
MERGE_PATCH = "application/merge-patch+json"
_JSON = "application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# 429: how often a request is made again, and how long the server may keep everybody waiting for it. A read may be asked
# again after any answer of a server that is busy or going.
_TOO_MANY = 429
_BUSY = frozenset({_TOO_MANY, 500, 503, 504})
# A quota, a policy or a field: asked again, the server says the same.
_REFUSED = frozenset({400, 403, 422})
_TURNED_AWAY_AT_MOST = 3
_LONGEST_REST_S = 10.0


class ConflictError(CallFleetError):
    """The object changed or vanished meanwhile: look again."""


class ListExpiredError(CallFleetError):
    """The rest of a list is no longer to be had: it must be listed again from its beginning."""


class RefusedError(CallFleetError):
    """The API server will not have an object: a quota, a policy, a field; its text is the server's own."""


class TokenBucket:
    """Bounds a rate; at most `burst` writes at once, then `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._tokens = rate, burst, burst
        self._at: float | None = None

    def rest(self, seconds: float) -> None:
        """Nobody may write for so long."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens, -seconds * self._rate)
        self._at = now

    async def take(self) -> None:
        """Waits until a write may be made."""
        now = asyncio.get_running_loop().time()
        elapsed = 0.0 if self._at is None else now - self._at
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


class Requests:
    """What every kind of request shares; bodies are JSON."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._bucket = TokenBucket(WRITES_PER_SECOND, BURST)

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> Self:
        """By the given file; without one, in the cluster by its service account, elsewhere by KUBECONFIG."""
        if kubeconfig is not None:
            await config.load_kube_config(config_file=str(kubeconfig))
            return cls(_client())
        try:
            config.load_incluster_config()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        except config.ConfigException:
            await config.load_kube_config()
        return cls(_client())

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def find(self, path: str, accept: str = _JSON) -> dict[str, Any] | None:
        """An object, or None where there is none; with METADATA only that of it."""
        try:
            return await self.request("GET", path, accept=accept)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Creates an object and answers it; None when it is there already.

        Raises ConflictError when something else, such as a quota, changed meanwhile: then it is not there; and
        RefusedError.
        """
        try:
            return await self.write("POST", path, body)
        except ApiException as error:
            if error.status != 409:
                raise
            if told(error, "reason") == "AlreadyExists":
                return None
            raise ConflictError(f"{body['kind']} was not created, since something changed meanwhile") from error

    async def delete(self, path: str, preconditions: dict[str, str]) -> None:
        """Deletes an object, if these fields are still so."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            await self.write("DELETE", path, body)
        except ApiException as error:
            if error.status not in {404, 409}:
                raise

    async def write(self, method: str, path: str, body: dict[str, Any], *, content_type: str = _JSON) -> dict[str, Any]:
        """A request that waits for its turn, and longer when the server is busy; answers what the server did.

        Raises RefusedError.
        """
        with _refusals():
            return await self._write(method, path, body, content_type)

    async def _write(self, method: str, path: str, body: dict[str, Any], content_type: str) -> dict[str, Any]:
        for _ in range(_TURNED_AWAY_AT_MOST):
            await self._bucket.take()
            try:
                return await self.request(method, path, body=body, content_type=content_type)
            except ApiException as error:
                if error.status != _TOO_MANY:
                    raise
                # The server has done nothing of it, and says when it may be asked again: nobody else asks before.
                self._bucket.rest(_retry_after_s(error))
        await self._bucket.take()
        return await self.request(method, path, body=body, content_type=content_type)

    async def ask(self, path: str, query: Mapping[str, str], accept: str = _JSON) -> dict[str, Any]:
        """A read that waits, as long as it is asked to, where the server is busy. Raises ApiException."""
        for _ in range(_TURNED_AWAY_AT_MOST):
            try:
                return await self.request("GET", path, query=query, accept=accept)
            except ApiException as error:
                if error.status not in _BUSY:
                    raise
                await asyncio.sleep(_retry_after_s(error))
        return await self.request("GET", path, query=query, accept=accept)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        """A request that does not wait. Raises ApiException."""
        answer: dict[str, Any] = await self._api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return answer


@contextmanager
def conflicts(what: str) -> Iterator[None]:
    """A compare-and-set that the server refuses, because `what` is another or gone, is a ConflictError."""
    try:
        yield
    except ApiException as error:
        if error.status in {404, 409}:
            raise ConflictError(f"{what} changed meanwhile") from error
        raise


@contextmanager
def _refusals() -> Iterator[None]:
    """What the server will not have, whatever it is asked again, is a RefusedError."""
    try:
        yield
    except ApiException as error:
        if error.status in _REFUSED:
            raise RefusedError(told(error, "message")) from error
        raise


def _retry_after_s(error: ApiException) -> float:
    """What a busy server asks for, in seconds; a second where it asks for nothing."""
    headers: Mapping[str, str] = error.headers or {}
    asked = headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_REST_S) if asked.isdigit() else 1.0


def told(error: ApiException, name: str) -> str:
    """A field of the API server's own Status."""
    try:
        return str(json.loads(error.body or "")[name])
    except (ValueError, TypeError, KeyError):
        return f"the API server answered {error.status}"


def _client() -> client.ApiClient:
    """A client that goes through the environment's proxy, if there is one, but does not read ~/.netrc each time.

    aiohttp would do so in a thread before every request: a tenth of the operator's time (docs/decisions/0024).
    """
    api = client.ApiClient()
    rest = api.rest_client
    if rest.proxy is None:
        with suppress(LookupError):
            rest.proxy, login = get_env_proxy_for_url(URL(api.configuration.host))
            rest.proxy_headers = {"Proxy-Authorization": login.encode()} if login else None
    rest.pool_manager._trust_env = False  # the package leaves no other way
    return api
