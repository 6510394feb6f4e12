"""The client that Kube is given: kubernetes_asyncio's call_api, answered by the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException
from tests.chaos.api.face import Api
from tests.chaos.api.server import RefusalError

from callfleet_operator.apiserver import METADATA, METADATA_LIST

# A round trip, of the loop's clock; long enough for others to come between.
ROUND_TRIP_S = 0.002


def refused(refusal: RefusalError, headers: Mapping[str, str] | None = None) -> ApiException:
    """The exception that kubernetes_asyncio raises for it."""
    error: Any = ApiException(status=refusal.code, reason=refusal.reason)
    error.body, error.headers = json.dumps(refusal.body()), dict(headers or {})
    told: ApiException = error
    return told


class ModelClient(client.ApiClient):
    """An ApiClient without a network."""

    def __init__(self, model: Api) -> None:
        self.model = model

    async def close(self) -> None:
        """There is nothing to close."""

    async def call_api(  # type: ignore[override]  # the package leaves its own untyped
        self,
        path: str,
        method: str,
        *,
        query_params: Sequence[tuple[str, str]] = (),
        body: Any = None,
        header_params: Mapping[str, str] | None = None,
        **_: Any,
    ) -> Any:
        """One call, as Kube makes it. Raises ApiException."""
        await asyncio.sleep(ROUND_TRIP_S)
        try:
            answer = self.model.request(method, path, body, **dict(query_params))
        except RefusalError as refusal:
            raise refused(refusal) from refusal
        await asyncio.sleep(ROUND_TRIP_S)
        accept = (header_params or {}).get("Accept")
        if accept == METADATA_LIST:
            return {**answer, "items": [{"metadata": item["metadata"]} for item in answer["items"]]}
        return {"metadata": answer["metadata"]} if accept == METADATA else answer
