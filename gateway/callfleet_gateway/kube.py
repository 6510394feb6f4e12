"""The gateway's one look at the Kubernetes API: the Secret with the auth tokens of campaigns' carrier accounts."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException

REQUEST_TIMEOUT_S = 5.0


class CarriersSecret:
    """Reads one Secret, with the pod's service account unless a client is given."""

    def __init__(self, namespace: str, name: str, api: client.ApiClient | None = None) -> None:
        self._namespace, self._name = namespace, name
        if api is None:
            config.load_incluster_config()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self._api = api or client.ApiClient()

    async def close(self) -> None:
        """Ends the connections."""
        await self._api.close()

    async def read(self) -> Mapping[str, str]:
        """The entries; none while there is no such Secret. Raises OSError when the API server does not answer."""
        try:
            found = await client.CoreV1Api(self._api).read_namespaced_secret(
                self._name, self._namespace, _request_timeout=REQUEST_TIMEOUT_S
            )
        except ApiException as error:
            if error.status == 404:
                return {}
            raise OSError(f"the API server answers with HTTP {error.status}") from error
        except aiohttp.ClientError as error:  # not all of them are OSError: a server that ends in the middle is none
            raise OSError(f"the API server does not answer ({type(error).__name__})") from error
        return {key: base64.b64decode(value).decode() for key, value in (found.data or {}).items()}
