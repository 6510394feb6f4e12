"""The simulator's HTTP face: Twilio's Calls and Usage resources; its own endpoints are in `admin`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from callfleet_simulator import admin, replies
from callfleet_simulator.auth import Account
from callfleet_simulator.calls import Call, now
from callfleet_simulator.carrier import Carrier
from callfleet_simulator.errors import ApiError, LostReplyError, invalid
from callfleet_simulator.forms import Form, parse_form, read_form
from callfleet_simulator.line import Document
from callfleet_simulator.listing import matching, page
from callfleet_simulator.replies import answered
from callfleet_simulator.requests import call_request, check_url, http_method
from callfleet_simulator.resource import API_VERSION, CATEGORIES, call_json, usage_json

ACCOUNT = f"/{API_VERSION}/Accounts/{{account_sid}}"


router = APIRouter()


def _shown(carrier: Carrier, call: Call) -> dict[str, object]:
    return call_json(call, carrier.prices.currency)


@router.post(ACCOUNT + "/Calls.json", status_code=201)
async def create_call(request: Request, carrier: Account) -> dict[str, object]:
    """Places a call."""
    form = await read_form(request)
    return await answered(
        carrier, "create", form.text("To"), lambda: _shown(carrier, carrier.place(call_request(form)))
    )


@router.get(ACCOUNT + "/Calls.json")
async def list_calls(request: Request, carrier: Account) -> dict[str, object]:
    """Lists calls, the newest first, filtered and paged."""
    form = parse_form(request.url.query)

    def listed() -> dict[str, object]:
        rows = [_shown(carrier, call) for call in matching(carrier.calls.listed(), form)]
        return page("calls", request.url.path, rows, form)

    return await answered(carrier, "list", form.text("To"), listed)


@router.get(ACCOUNT + "/Calls/{call_sid}.json")
async def fetch_call(call_sid: str, carrier: Account) -> dict[str, object]:
    """One call."""
    call = carrier.find(call_sid)
    return await answered(carrier, "fetch", call.request.to, lambda: _shown(carrier, call))


@router.post(ACCOUNT + "/Calls/{call_sid}.json")
async def update_call(call_sid: str, request: Request, carrier: Account) -> dict[str, object]:
    """Cancels, completes or redirects a call."""
    call, form = carrier.find(call_sid), await read_form(request)

    async def updated() -> dict[str, object]:
        await _update(carrier, call, form)
        return _shown(carrier, call)

    return await answered(carrier, "update", call.request.to, updated)


@router.delete(ACCOUNT + "/Calls/{call_sid}.json", status_code=204)
async def delete_call(call_sid: str, carrier: Account) -> Response:
    """Deletes the record of a call that has ended."""
    call = carrier.find(call_sid)
    await answered(carrier, "delete", call.request.to, lambda: carrier.delete(call))
    return Response(status_code=204)


async def _update(carrier: Carrier, call: Call, form: Form) -> None:
    status, url, twiml = form.text("Status"), form.text("Url"), form.text("Twiml")
    if status is not None:
        if status not in {"canceled", "completed"}:
            raise invalid(21220, "Status must be canceled or completed")
        return await carrier.change_status(call, status)
    unsupported = [name for name in ("FallbackUrl", "StatusCallback", "TimeLimit") if form.text(name) is not None]
    if unsupported:
        raise invalid(20001, f"the simulator does not change a call's {unsupported[0]} yet")
    if (url is None) == (twiml is None):
        raise invalid(20001, "give Status, Url or Twiml, and not both of the last two")
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
    names = (category,) if category else CATEGORIES

    def records() -> dict[str, object]:
        rows = [usage_json(carrier.config.account_sid, name, calls, span, carrier.prices.currency) for name in names]
        return page("usage_records", request.url.path, rows, form)

    return await answered(carrier, "usage", None, records)


def _day(form: Form, name: str, default: date) -> date:
    text = form.text(name)
    try:
        return default if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise invalid(20001, f"Invalid parameter {name}: write YYYY-MM-DD") from error


def create_app(carrier: Carrier, others: Sequence[Carrier] = ()) -> FastAPI:
    """The app over the carriers of one account or several, whose `async with` is the caller's.

    Whose login a request bears, that account's calls, queue and faults it reaches.
    """
    app = FastAPI(title="CallFleet carrier simulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.carriers = (carrier, *others)
    app.include_router(router)
    app.include_router(admin.router)
    app.add_exception_handler(ApiError, replies.refused)
    app.add_exception_handler(LostReplyError, replies.lost)
    app.add_exception_handler(HTTPException, replies.no_such_request)
    return app
