"""What the operator asks the carrier: the truth about a call when callbacks are missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, TypeVar

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from callfleet_core.carriers import CarrierAccount, CarrierSecretError
from callfleet_core.errors import CarrierError
from callfleet_core.money import MICROS_PER_UNIT
from callfleet_operator.carriercall import FINAL_STATUSES, CarrierCall

Listed = TypeVar("Listed")

REQUEST_TIMEOUT_S = 10.0
PAGE_SIZE, MAX_PAGES = 1_000, 100
# From a call's creation to its dial: the carrier's queue is shorter.
LONGEST_QUEUE = timedelta(days=1)


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
        await _listed(self._client.calls.list_async(limit=1, page_size=1))

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

    async def day(self, start: datetime, end: datetime) -> AsyncIterator[list[CarrierCall]]:
        """Pages of the calls created in [start, end), each call once. Raises CarrierError, CarrierSecretError.

        A StartTime filter finds what was dialled, at most a day later; what still waits has none and is asked for by
        its status. What was canceled before it was dialled is in neither: it is found by its SID, and cost nothing.
        """
        dialled = {"start_time_after": start, "start_time_before": end + LONGEST_QUEUE}
        seen: set[str] = set()
        for wanted in (dialled, {"status": "queued"}):
            page = await _listed(self._client.calls.page_async(**wanted, page_size=PAGE_SIZE))
            for _ in range(MAX_PAGES):
                calls = [view for view in map(_view, page) if view.sid not in seen and _within(view, start, end)]
                seen.update(view.sid for view in calls)
                yield calls
                if page.next_page_url is None:
                    break
                page = await _listed(page.next_page_async())
            else:
                raise CarrierError(f"the carrier lists more than {MAX_PAGES * PAGE_SIZE:,} calls of a day: too many")

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


async def _listed(request: Awaitable[Listed]) -> Listed:
    """A list's answer. Raises CarrierSecretError when the credentials are refused, CarrierError for all else."""
    try:
        return await asyncio.wait_for(request, REQUEST_TIMEOUT_S)
    except TwilioException as error:
        # A list's refusal comes without a status of its own: the SDK hands the whole answer on.
        status = getattr(error, "status", None) or getattr(error.args[-1], "status_code", None)
        if status in {401, 403, 404}:
            raise CarrierSecretError(
                f"the carrier refuses these credentials (HTTP {status}): check accountSid and the API key or authToken"
            ) from error
        raise CarrierError(f"the carrier answers with HTTP {status}: asking again") from error
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise CarrierError(f"the carrier does not answer ({type(error).__name__}): asking again") from error


def _within(call: CarrierCall, start: datetime, end: datetime) -> bool:
    return call.created is not None and start <= call.created < end


def _price_micros(price: str | None) -> int | None:
    """The carrier writes what it takes as a negative amount."""
    return None if price is None else -int((Decimal(price) * MICROS_PER_UNIT).to_integral_value(ROUND_FLOOR))


def _view(call: Any) -> CarrierCall:
    return CarrierCall(
        sid=call.sid,
        status=str(getattr(call.status, "value", call.status)),
        duration_s=int(call.duration) if call.duration is not None else None,
        created=call.date_created,
        ended=call.end_time,
        price_micros=_price_micros(call.price),
        currency=call.price_unit.upper() if call.price_unit else None,
        to=call.to or "",
        from_=getattr(call, "_from", None) or "",
    )
