"""Requests from the carrier to the application: signed like Twilio's, bounded in time and tries."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

import httpx
import structlog
from twilio.request_validator import RequestValidator

log = structlog.get_logger(__name__)

TIMEOUT_S = 15.0  # Twilio's read timeout for webhooks
TRIES = 3
RETRY_PAUSES_S = (0.5, 1.5)


class WebhookError(Exception):
    """The application did not answer a webhook usefully (Twilio's 11200)."""


class Webhooks:
    """Signs and sends webhooks with one account's auth token. Close it when done."""

    def __init__(self, auth_token: str) -> None:
        self._validator = RequestValidator(auth_token)
        # trust_env=False: a proxy from the environment has no business between carrier and application.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def signature(self, url: str, params: Mapping[str, str]) -> str:
        """X-Twilio-Signature for this URL and these form parameters (none for GET and WebSockets)."""
        return str(self._validator.compute_signature(url, dict(params)))

    async def fetch_twiml(self, url: str, method: str, params: Mapping[str, str]) -> str:
        """Asks the application what to do; one try. Raises WebhookError (the caller tries the fallback URL)."""
        try:
            response = await self._send(url, method, params, secrets.token_hex(16))
        except httpx.HTTPError as error:
            raise WebhookError(f"TwiML could not be fetched: {type(error).__name__}") from error
        if response.status_code != 200:
            raise WebhookError(f"TwiML was answered with HTTP {response.status_code}")
        return response.text

    async def notify(self, url: str, method: str, params: Mapping[str, str], idempotency: str) -> bool:
        """Delivers a callback, with a few retries on transport errors and 5xx. False: given up."""
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(RETRY_PAUSES_S[attempt - 1])
            try:
                response = await self._send(url, method, params, idempotency)
            except httpx.HTTPError as error:
                reason = type(error).__name__
                continue
            if response.status_code < 500:
                return response.status_code < 400
            reason = f"HTTP {response.status_code}"
        log.warning("status callback given up", call_sid=params.get("CallSid"), reason=reason, tries=TRIES)
        return False

    async def _send(self, url: str, method: str, params: Mapping[str, str], idempotency: str) -> httpx.Response:
        headers = {"User-Agent": "TwilioProxy/1.1", "I-Twilio-Idempotency-Token": idempotency}
        if method == "GET":
            full = str(httpx.URL(url).copy_merge_params(dict(params)))
            headers["X-Twilio-Signature"] = self.signature(full, {})
            return await self._client.get(full, headers=headers)
        headers["X-Twilio-Signature"] = self.signature(url, params)
        return await self._client.post(url, data=dict(params), headers=headers)
