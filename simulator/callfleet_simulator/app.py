"""The simulator's HTTP face: Twilio's Calls and Usage resources, /health and /simulator/stats."""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from callfleet_simulator.calls import Call, now
from callfleet_simulator.carrier import Carrier
from callfleet_simulator.errors import ApiError, invalid, not_found, unauthorised
from callfleet_simulator.forms import Form, parse_form, read_form
from callfleet_simulator.life import Document
from callfleet_simulator.listing import matching, page
from callfleet_simulator.requests import call_request, check_url, http_method
from callfleet_simulator.resource import API_VERSION, call_json, usage_json

ACCOUNT = f"/{API_VERSION}/Accounts/{{account_sid}}"
CATEGORIES = ("calls-outbound", "calls-media-stream-minutes")


def carrier_of(request: Request) -> Carrier:
    """The carrier behind this app, once the basic auth is right. Raises ApiError 20003."""
    carrier: Carrier = request.app.state.carrier
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise unauthorised() from error
    secrets = {carrier.config.account_sid: carrier.config.auth_token, **carrier.config.api_keys}
    expected = secrets.get(user, "")
    known = bool(expected) and hmac.compare_digest(expected.encode(), password.encode())
    if scheme.lower() != "basic" or not known:
        raise unauthorised()
    return carrier


def account_carrier(account_sid: str, carrier: Annotated[Carrier, Depends(carrier_of)]) -> Carrier:
    """The carrier, when the path names its account. Raises ApiError 20404."""
    if account_sid != carrier.config.account_sid:
        raise not_found(f"/{API_VERSION}/Accounts/{account_sid}.json")
    return carrier


Account = Annotated[Carrier, Depends(account_carrier)]
router = APIRouter()


def _shown(carrier: Carrier, call: Call) -> dict[str, object]:
    return call_json(call, carrier.prices.currency)


@router.post(ACCOUNT + "/Calls.json", status_code=201)
async def create_call(request: Request, carrier: Account) -> dict[str, object]:
    """Places a call."""
    return _shown(carrier, carrier.place(call_request(await read_form(request))))


@router.get(ACCOUNT + "/Calls.json")
async def list_calls(request: Request, carrier: Account) -> dict[str, object]:
    """Lists calls, the newest first, filtered and paged."""
    form = parse_form(request.url.query)
    rows = [_shown(carrier, call) for call in matching(carrier.calls.newest_first(), form)]
    return page("calls", request.url.path, rows, form)


@router.get(ACCOUNT + "/Calls/{call_sid}.json")
async def fetch_call(call_sid: str, carrier: Account) -> dict[str, object]:
    """One call."""
    return _shown(carrier, carrier.find(call_sid))


@router.post(ACCOUNT + "/Calls/{call_sid}.json")
async def update_call(call_sid: str, request: Request, carrier: Account) -> dict[str, object]:
    """Cancels, completes or redirects a call."""
    call = carrier.find(call_sid)
    await _update(carrier, call, await read_form(request))
    return _shown(carrier, call)


async def _update(carrier: Carrier, call: Call, form: Form) -> None:
    status, url, twiml = form.text("Status"), form.text("Url"), form.text("Twiml")
    if status is not None:
        if status not in {"canceled", "completed"}:
            raise invalid(21220, "Status must be canceled or completed")
        return await carrier.change_status(call, status)
    if url is None and twiml is None:
        raise invalid(20001, "give Status, Url or Twiml")
    check_url(url, 21205, "Url")
    return carrier.redirect(call, Document(twiml=twiml, url=url, method=http_method(form, "Method")))


@router.get(ACCOUNT + "/Usage/Records.json")
async def usage_records(request: Request, carrier: Account) -> dict[str, object]:
    """Minutes and prices by category, over the days StartDate to EndDate (all by default)."""
    form = parse_form(request.url.query)
    category = form.text("Category")
    if category is not None and category not in CATEGORIES:
        raise invalid(20001, f"the simulator knows only the usage categories {', '.join(CATEGORIES)}")
    span = (_day(form, "StartDate", date(2010, 4, 1)), _day(form, "EndDate", now().date()))
    calls = [c for c in carrier.calls.newest_first() if span[0] <= c.date_created.date() <= span[1]]
    rows = [
        usage_json(carrier.config.account_sid, name, calls, span, carrier.prices.currency)
        for name in ((category,) if category else CATEGORIES)
    ]
    return page("usage_records", request.url.path, rows, form)


def _day(form: Form, name: str, default: date) -> date:
    text = form.text(name)
    try:
        return default if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise invalid(20001, f"Invalid parameter {name}: write YYYY-MM-DD") from error


@router.get("/simulator/stats")
async def stats(carrier: Annotated[Carrier, Depends(carrier_of)]) -> dict[str, object]:
    """The simulator's own books: calls by status, billed micros, how punctual the frames were."""
    return carrier.stats()


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive."""
    return {"status": "ok"}


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ApiError):
        raise error
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if error.status == 401 else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def create_app(carrier: Carrier) -> FastAPI:
    """The app over a carrier whose `async with` is the caller's."""
    app = FastAPI(title="CallFleet carrier simulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.carrier = carrier
    app.include_router(router)
    app.add_exception_handler(ApiError, _refused)
    return app
