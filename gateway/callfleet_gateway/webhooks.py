"""The carrier's HTTP requests: what to do with an answered call, and how calls go on."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Annotated, cast, get_args
from urllib.parse import parse_qsl
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from twilio.twiml.voice_response import Connect, VoiceResponse

from callfleet_core.dialing import AttemptView, EndEvidence, EndStatus, PlacedResult
from callfleet_gateway.context import Gateway, gateway_of
from callfleet_gateway.patience import PartAwayError, patiently

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 32 * 1024
MAX_FIELDS = 100
CALL_SID_LENGTH = 34
LIVE = ("queued", "initiated", "ringing", "in-progress")
FINAL = tuple(status for status in get_args(EndStatus) if status not in {"notPlaced", "unresolved"})
SORRY = "We are sorry. We have a technical problem and must end this call. Goodbye."
# A carrier's clock may be a little ahead; further ahead it is wrong, and ours is used.
MAX_CLOCK_AHEAD = timedelta(seconds=60)

router = APIRouter()

Form = Mapping[str, str]


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


async def signed_form(request: Request) -> Form:
    """The request's form, once its signature is right. Raises 400, 403 or 413, and says nothing of its content."""
    gateway = gateway_of(request)
    body = await _body(request)
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise HTTPException(400, "the body is not a form that this gateway reads") from error
    if not await _is_signed(gateway, request, form):
        if gateway.carriers.is_uncertain(form.get("AccountSid", "")):
            raise HTTPException(503, "carrier accounts cannot be read now; try again")
        gateway.metrics.signature_failures.labels(request.scope["route"].path).inc()
        raise HTTPException(403, "the X-Twilio-Signature does not fit: check the account's authToken and publicURL")
    if len(form.get("CallSid", "")) != CALL_SID_LENGTH:
        raise HTTPException(400, "CallSid is missing or is not a call's SID")
    return form


async def _is_signed(gateway: Gateway, request: Request, form: Form) -> bool:
    """True when the account that the form names signed it; a token may have been changed since it was read."""
    path, signature = request.url.path, request.headers.get("x-twilio-signature")
    sid = form.get("AccountSid", "")
    check = await gateway.carriers.of(sid)
    if check is None or signature is None:
        return False
    if check.webhook(path, form, signature):
        return True
    if not await gateway.carriers.refresh():
        return False
    check = await gateway.carriers.of(sid)
    return check is not None and check.webhook(path, form, signature)


async def _view(gateway: Gateway, attempt_id: UUID, form: Form) -> AttemptView:
    """The attempt, which must be of the account that signed: nobody may speak for another's calls. Raises 404, 403."""
    view = await gateway.store.attempt_view(attempt_id)
    if view is None:
        raise HTTPException(404, "no such attempt")
    if view.account_sid != form["AccountSid"]:
        raise HTTPException(403, "this call is of another account")
    return view


Signed = Annotated[Form, Depends(signed_form)]
Parts = Annotated[Gateway, Depends(gateway_of)]


@router.post("/twilio/voice/{attempt_id}")
async def voice(attempt_id: UUID, form: Signed, gateway: Parts) -> Response:
    """TwiML for an answered call: its media stream, or a hang-up when the attempt may no longer talk.

    Somebody listens: where PostgreSQL or Redis stay away they hear why, not the carrier's own words for an error.
    """
    twiml = VoiceResponse()
    try:
        url = await patiently(lambda: _stream_url(gateway, attempt_id, form))
    except PartAwayError as error:
        log.error("an answered call cannot go on", attempt=str(attempt_id), part=error.part)
        gateway.metrics.cut_short.labels(error.part).inc()
        twiml.say(SORRY)
        url = None
    if url is None:
        twiml.hangup()
    else:
        connect = Connect()
        connect.stream(url=url)
        twiml.append(connect)
    return Response(str(twiml), media_type="text/xml")


async def _stream_url(gateway: Gateway, attempt_id: UUID, form: Form) -> str | None:
    """Where an answered call's audio goes, once its evidence is recorded; None when it may not talk. Repeatable."""
    await _view(gateway, attempt_id, form)
    placed = await _record_placed(gateway, attempt_id, form)
    view = await _view(gateway, attempt_id, form)
    check = await gateway.carriers.of(view.account_sid)
    may_talk = placed in {PlacedResult.PLACED, PlacedResult.SAME} and view.state in {"dialing", "placed"}
    if not may_talk or view.cancel_requested or check is None:
        log.info("answered call hung up", attempt=str(attempt_id), state=view.state, placed=placed.value)
        return None
    await gateway.store.record_answered(attempt_id, datetime.now(UTC), call_sid=form["CallSid"])
    await cast("Awaitable[object]", gateway.redis.ping())  # without it the stream would find nobody
    return check.stream_url(f"/twilio/media/{attempt_id}/{check.media_token(attempt_id)}")


@router.post("/twilio/status/{attempt_id}")
async def status(attempt_id: UUID, form: Signed, gateway: Parts) -> Response:
    """Takes evidence of how a call goes on. In any order, any number of times: the store keeps what is new."""
    call_status = form.get("CallStatus", "")
    if call_status not in LIVE + FINAL:
        raise HTTPException(400, "CallStatus is missing or unknown")
    await _view(gateway, attempt_id, form)
    placed = await _record_placed(gateway, attempt_id, form)
    if placed is not PlacedResult.SECOND_SID:
        await _record(gateway, attempt_id, call_status, form)
    gateway.metrics.callbacks.labels(call_status).inc()
    log.info("status callback", attempt=str(attempt_id), status=call_status, placed=placed.value)
    return Response(status_code=204)


async def _record_placed(gateway: Gateway, attempt_id: UUID, form: Form) -> PlacedResult:
    """The SID first: a callback may come before the worker has stored it. Raises 404 for an unknown attempt."""
    placed = await gateway.store.record_placed(attempt_id, form["CallSid"])
    if placed is PlacedResult.UNKNOWN_ATTEMPT:
        raise HTTPException(404, "no such attempt")
    if placed is PlacedResult.SECOND_SID:
        gateway.metrics.second_calls.inc()
        log.warning("a second call for one attempt", attempt=str(attempt_id), call_sid=form["CallSid"])
    return placed


async def _record(gateway: Gateway, attempt_id: UUID, call_status: str, form: Form) -> None:
    at = _timestamp(form)
    if call_status == "in-progress":
        await gateway.store.record_answered(attempt_id, at, call_sid=form["CallSid"])
    elif call_status in FINAL:
        await gateway.store.record_ended(attempt_id, _evidence(call_status, at, form))


def _evidence(call_status: str, at: datetime, form: Form) -> EndEvidence:
    return EndEvidence(
        source="callback",
        status=cast("EndStatus", call_status),  # one of FINAL, which is drawn from EndStatus
        call_sid=form["CallSid"],
        duration_s=_whole(form, "CallDuration"),
        error_code=form.get("ErrorCode") or None,
        sip_code=_whole(form, "SipResponseCode"),
        at=at,
    )


def _whole(form: Form, name: str) -> int | None:
    text = form.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _timestamp(form: Form) -> datetime:
    """The carrier's own time of the event; now, where it gives none or one from the future."""
    present = datetime.now(UTC)
    try:
        at = parsedate_to_datetime(form["Timestamp"])
    except (KeyError, ValueError):
        return present
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return at.astimezone(UTC) if at <= present + MAX_CLOCK_AHEAD else present
