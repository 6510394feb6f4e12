"""What the operator asks the carrier: the truth about a call when callbacks are missing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from callfleet_core.carriers import CarrierAccount, CarrierSecretError
from callfleet_core.dialing import EndStatus
from callfleet_core.errors import CarrierError

REQUEST_TIMEOUT_S = 10.0
FINAL_STATUSES: dict[str, EndStatus] = {
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "canceled",
}


@dataclass(frozen=True)
class CarrierCall:
    """A call as the carrier has it; the duration is in seconds, 0 when nobody answered."""

    sid: str
    status: str
    duration_s: int | None
    created: datetime | None


class Carrier:
    """Calls of one account. It never places one."""

    def __init__(self, account: CarrierAccount) -> None:
        user, password = account.login
        self._http = AsyncTwilioHttpClient()
        # Region and edge are given, since the SDK falls back to the process's environment for what is not.
        self._client = Client(
            user, password, account_sid=account.account_sid, http_client=self._http, environment={"_": ""}
        )
        # The SDK's address is a constant of its own: without this line a test would reach the real carrier.
        self._client.api.base_url = account.api_base_url

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.close()

    async def prove(self) -> None:
        """Raises CarrierSecretError when the carrier refuses the credentials, CarrierError when it does not answer."""
        try:
            await asyncio.wait_for(self._client.calls.list_async(limit=1, page_size=1), REQUEST_TIMEOUT_S)
        except TwilioException as error:
            # A list's refusal comes without a status of its own: the SDK hands the whole answer on.
            status = getattr(error, "status", None) or getattr(error.args[-1], "status_code", None)
            if status in {401, 403, 404}:
                raise CarrierSecretError(
                    f"the carrier refuses these credentials (HTTP {status}): check accountSid and the API key"
                    " or authToken"
                ) from error
            raise CarrierError(f"the carrier answers with HTTP {status}: asking again") from error
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise CarrierError(f"the carrier does not answer ({type(error).__name__}): asking again") from error

    async def fetch(self, sid: str) -> CarrierCall | None:
        """The call, or None when the carrier does not know it."""
        try:
            call = await asyncio.wait_for(self._client.calls(sid).fetch_async(), REQUEST_TIMEOUT_S)
        except TwilioRestException as error:
            if error.status == 404:
                return None
            raise
        return _view(call)

    async def find(self, *, to: str, from_: str, since: datetime) -> list[CarrierCall]:
        """Calls between two numbers created since then; no StartTime filter, since queued calls have none."""
        calls = await asyncio.wait_for(self._client.calls.list_async(to=to, from_=from_, limit=50), REQUEST_TIMEOUT_S)
        return [view for view in map(_view, calls) if view.created is None or view.created >= since]

    async def end(self, sid: str) -> CarrierCall | None:
        """Cancels a call that waits or rings, completes one that went live meanwhile; answers what it is then."""
        for status in ("canceled", "completed"):
            call = await self.fetch(sid)
            if call is None or call.status in FINAL_STATUSES:
                return call
            try:
                await asyncio.wait_for(self._client.calls(sid).update_async(status=status), REQUEST_TIMEOUT_S)
            except TwilioRestException as error:
                if error.status >= 500:
                    raise
        return await self.fetch(sid)


def _view(call: Any) -> CarrierCall:
    return CarrierCall(
        sid=call.sid,
        status=str(getattr(call.status, "value", call.status)),
        duration_s=int(call.duration) if call.duration is not None else None,
        created=call.date_created,
    )
