"""The carrier, through its own SDK: one POST for one call, and a hang-up.

The SDK's base URL, environment and retries are all explicit: by default it would go to the real carrier, read the
process's environment, and an SDK told to retry would dial twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import structlog
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from callfleet_core.dialing import DialOrder

PLACE_TIMEOUT_S = 15.0
HANG_UP_TIMEOUT_S = 5.0
HANG_UP_TRIES = 3
STATUS_EVENTS = ["initiated", "ringing", "answered", "completed"]
# Not empty: the SDK takes an empty mapping for none and reads the process's environment instead.
_ENVIRONMENT = {"CALLFLEET": "worker"}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Placed:
    """The carrier took the call under this SID."""

    call_sid: str


@dataclass(frozen=True)
class NotPlaced:
    """The carrier certainly did not take the call: it said so, or was never reached."""

    error_code: str


@dataclass(frozen=True)
class UnknownPlaced:
    """The carrier may have taken the call: no answer, a broken one, or its own error."""

    reason: str


class Carrier:
    """A client for one order's account. Use as an async context manager."""

    def __init__(self, order: DialOrder, login: tuple[str, str]) -> None:
        """`login`: user and password at the carrier, of the order's account."""
        self._order = order
        self._login = login
        self._http: AsyncTwilioHttpClient | None = None

    async def __aenter__(self) -> Self:
        """Opens the connection pool; `max_retries` stays unset, so the POST is sent once."""
        self._http = AsyncTwilioHttpClient()
        username, password = self._login
        self._client = Client(
            username, password, self._order.account_sid, http_client=self._http, environment=_ENVIRONMENT
        )
        self._client.api.base_url = self._order.api_base_url
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the pool."""
        if self._http is not None:
            await self._http.close()

    async def place(self) -> Placed | NotPlaced | UnknownPlaced:
        """Sends the one POST, within a bound of our own: the async client ignores its timeout."""
        try:
            async with asyncio.timeout(PLACE_TIMEOUT_S):
                call = await self._create()
            return Placed(str(call)) if call else UnknownPlaced("the carrier's answer had no SID")
        except TwilioRestException as error:
            if 400 <= error.status < 500:
                return NotPlaced(str(error.code or error.status))
            return UnknownPlaced(f"HTTP {error.status}")
        except aiohttp.ClientConnectorError:
            return NotPlaced("unreachable")  # no connection, so nothing was sent
        except (
            TimeoutError,
            aiohttp.ClientError,
            OSError,
            TwilioException,
            ValueError,
            LookupError,
            TypeError,
        ) as error:
            return UnknownPlaced(type(error).__name__)

    async def _create(self) -> str | None:
        order = self._order
        base = f"{order.public_url}/twilio"
        call = await self._client.calls.create_async(
            to=order.to,
            from_=order.from_,
            url=f"{base}/voice/{order.attempt_id}",
            method="POST",
            status_callback=f"{base}/status/{order.attempt_id}",
            status_callback_event=STATUS_EVENTS,
            status_callback_method="POST",
            timeout=order.ring_timeout_s,
            time_limit=order.time_limit_s,
        )
        sid: str | None = call.sid
        return sid

    async def hang_up(self, call_sid: str) -> bool:
        """Ends a call; tried three times, for ending twice is harmless. False when the carrier never agreed."""
        for attempt in range(HANG_UP_TRIES):
            try:
                async with asyncio.timeout(HANG_UP_TIMEOUT_S):
                    await self._client.calls(call_sid).update_async(status="completed")
                return True
            except TwilioRestException as error:
                if 400 <= error.status < 500 and error.status != 429:
                    return True  # it is over already
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                _log.warning("hanging up failed", call_sid=call_sid, error=type(error).__name__)
            await asyncio.sleep(0.5 * 2**attempt)
        return False
