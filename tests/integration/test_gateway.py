"""The gateway between a signed carrier and the real ledger: TwiML, callbacks, media legs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4
from xml.etree import ElementTree as ET

import httpx
import pytest
from tests.integration.books import Books, register_carrier
from tests.integration.gateway_parts import RunningGateway, dialing, row, running_gateway
from tests.integration.simulator_application import ACCOUNT, TOKEN
from twilio.request_validator import RequestValidator

from callfleet_core.dialing import EndEvidence
from callfleet_simulator.calls import new_sid
from callfleet_simulator.server import listener

Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def books(gateway_books: Books) -> Books:
    return gateway_books


@pytest.fixture
def sid() -> str:
    """The SID of the test's call."""
    return new_sid("CA")


@pytest.fixture
async def post(gateway: RunningGateway, sid: str) -> AsyncIterator[Post]:
    """Posts a webhook as the carrier does."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:

        async def send(path: str, token: str = TOKEN, call: str = sid, **form: str) -> httpx.Response:
            fields = {"AccountSid": ACCOUNT, "CallSid": call, "SpeechResult": "", **form}
            signature = RequestValidator(token).compute_signature(gateway.url + path, fields)
            return await client.post(path, data=fields, headers={"X-Twilio-Signature": signature})

        yield send


def stream_url(twiml: str) -> str | None:
    stream = verb(twiml, "./Connect/Stream")
    return None if stream is None else stream.get("url")


def verb(twiml: str, path: str) -> ET.Element | None:
    return ET.fromstring(twiml).find(path)  # noqa: S314 - our own gateway's answer


async def test_an_answered_call_gets_its_stream_and_counts_as_placed_and_answered(
    gateway: RunningGateway, books: Books, post: Post, sid: str
) -> None:
    attempt = await dialing(books)
    answer = await post(f"/twilio/voice/{attempt}", CallStatus="in-progress")
    assert answer.status_code == 200
    token = gateway.media_token(attempt)
    assert stream_url(answer.text) == gateway.url.replace("http", "ws") + f"/twilio/media/{attempt}/{token}"
    found = await row(books, attempt)
    assert (found["state"], found["call_sid"]) == ("placed", sid)
    assert found["answered_at"] is not None


async def test_twiml_hangs_up_an_attempt_that_may_not_talk(books: Books, post: Post, sid: str) -> None:
    canceled, ended, second = await dialing(books), await dialing(books), await dialing(books)
    await books.ledger.request_cancel(canceled)
    of_ended = new_sid("CA")
    await post(f"/twilio/status/{ended}", call=of_ended, CallStatus="completed", CallDuration="3")
    await post(f"/twilio/status/{second}", CallStatus="ringing")
    for attempt, call in ((canceled, new_sid("CA")), (ended, of_ended), (second, new_sid("CA"))):
        answer = await post(f"/twilio/voice/{attempt}", call=call)
        assert answer.status_code == 200
        assert stream_url(answer.text) is None
        assert verb(answer.text, "./Hangup") is not None
    assert (await row(books, second))["call_sid"] == sid


@pytest.mark.parametrize("room", ["voice", "status"])
async def test_an_unsigned_webhook_changes_nothing_and_is_counted(
    gateway: RunningGateway, books: Books, post: Post, room: str
) -> None:
    attempt = await dialing(books)
    for token in ("another token", ""):
        answer = await post(f"/twilio/{room}/{attempt}", token=token, CallStatus="completed")
        assert answer.status_code == 403
    assert (await row(books, attempt))["state"] == "dialing"
    metrics = gateway.gateway.metrics.text().decode()
    assert f'signature_failures_total{{route="/twilio/{room}/{{attempt_id}}"}} 2.0' in metrics
    assert str(attempt) not in metrics


async def test_unknown_attempts_are_not_found(post: Post) -> None:
    for path in (f"/twilio/voice/{uuid4()}", f"/twilio/status/{uuid4()}"):
        assert (await post(path, CallStatus="ringing")).status_code == 404


async def test_callbacks_in_order_are_the_attempts_story(books: Books, post: Post) -> None:
    attempt = await dialing(books)
    states = []
    for status in ("initiated", "ringing", "in-progress", "completed"):
        timestamp = "Mon, 02 Nov 2026 15:52:01 +0000"
        answer = await post(
            f"/twilio/status/{attempt}",
            CallStatus=status,
            Timestamp=timestamp,
            CallDuration="61",
            SipResponseCode="200",
        )
        assert answer.status_code == 204
        states.append((await row(books, attempt))["state"])
    assert states == ["placed", "placed", "placed", "ended"]
    found = await row(books, attempt)
    assert found["answered_at"].isoformat() == "2026-11-02T15:52:01+00:00"
    evidence = EndEvidence.model_validate(found["evidence"])
    assert (evidence.source, evidence.status, evidence.duration_s, evidence.sip_code) == (
        "callback",
        "completed",
        61,
        200,
    )


async def test_callbacks_may_come_twice_and_in_the_wrong_order(books: Books, post: Post) -> None:
    attempt = await dialing(books)
    for status in ("completed", "in-progress", "completed", "ringing", "busy", "initiated"):
        answer = await post(f"/twilio/status/{attempt}", CallStatus=status, CallDuration="5")
        assert answer.status_code == 204
    found = await row(books, attempt)
    assert (found["state"], found["end_status"], found["duration_s"]) == ("ended", "completed", 5)
    assert found["answered_at"] is not None


async def test_another_calls_callbacks_do_not_touch_the_attempt(
    gateway: RunningGateway, books: Books, post: Post, sid: str
) -> None:
    attempt = await dialing(books)
    await post(f"/twilio/status/{attempt}", CallStatus="ringing")
    await post(f"/twilio/status/{attempt}", call=new_sid("CA"), CallStatus="completed", CallDuration="9")
    found = await row(books, attempt)
    assert (found["state"], found["call_sid"]) == ("placed", sid)
    assert "second_calls_total 1.0" in gateway.gateway.metrics.text().decode()


async def test_a_call_belongs_to_one_attempt_only(books: Books, post: Post) -> None:
    first, second = await dialing(books), await dialing(books)
    assert (await post(f"/twilio/status/{first}", CallStatus="ringing")).status_code == 204
    assert (await post(f"/twilio/status/{second}", CallStatus="ringing")).status_code == 409
    assert (await row(books, second))["state"] == "dialing"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"CallStatus": "dancing"}, 400),
        ({"CallStatus": "notPlaced"}, 400),
        ({"CallStatus": "completed", "CallSid": "short"}, 400),
        ({"CallStatus": "completed", "AccountSid": "AC" + "f" * 32}, 403),
        ({"CallStatus": "completed", "Filler": "x" * 40_000}, 413),
    ],
)
async def test_bad_webhooks_are_refused_without_effect(
    books: Books, post: Post, form: dict[str, str], status: int
) -> None:
    attempt = await dialing(books)
    assert (await post(f"/twilio/status/{attempt}", **form)).status_code == status
    assert (await row(books, attempt))["state"] == "dialing"


async def test_an_account_speaks_for_its_own_calls_only(
    gateway_database: str, redis_url: str, books: Books, sid: str
) -> None:
    other, key = "AC" + "1" * 32, "another-token"

    async def accounts() -> dict[str, str]:
        return {other: json.dumps({"authToken": key, "publicURL": running.url})}

    await register_carrier(books.engine, account_sid=other)
    own, theirs = await dialing(books), await dialing(books, account_sid=other)
    async with (
        running_gateway(gateway_database, redis_url, books.engine, accounts) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as client,
    ):

        async def post(attempt: UUID, account: str, token: str) -> int:
            path, form = f"/twilio/voice/{attempt}", {"AccountSid": account, "CallSid": sid}
            signature = RequestValidator(token).compute_signature(running.url + path, form)
            return (await client.post(path, data=form, headers={"X-Twilio-Signature": signature})).status_code

        assert await post(own, other, key) == 403
        assert await post(theirs, ACCOUNT, TOKEN) == 403
        assert await post(theirs, other, TOKEN) == 403
        assert [(await row(books, item))["state"] for item in (own, theirs)] == ["dialing", "dialing"]
        assert await post(theirs, other, key) == 200
    assert (await row(books, theirs))["state"] == "placed"


# Health


async def test_health_and_readiness(gateway: RunningGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"postgresql": True, "redis": True, "accepting": True})
        assert "callfleet_gateway_requests_total" in (await client.get("/metrics")).text


async def test_a_gateway_without_redis_is_alive_but_not_ready(gateway_database: str, books: Books) -> None:
    nowhere = "redis://:nobody@127.0.0.1:1/0"
    async with (
        running_gateway(gateway_database, nowhere, books.engine) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["redis"], ready.json()["postgresql"]) == (503, False, True)


# As a process


async def test_the_process_serves_drains_and_stops_on_sigterm(
    gateway_database: str, redis_url: str, books: Books
) -> None:
    bound = listener("127.0.0.1", 0)
    address = f"127.0.0.1:{bound.getsockname()[1]}"
    bound.close()
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": gateway_database,
        "REDIS_URL": redis_url,
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "CALLFLEET_PUBLIC_URL": f"http://{address}",
        "CALLFLEET_GATEWAY_LISTEN": address,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet_gateway", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        await ready(client)
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.decode().splitlines()]
    assert "draining" in events
    assert TOKEN not in log.decode()


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # not listening yet
            await asyncio.sleep(0.1)


async def test_the_process_says_which_setting_is_missing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "callfleet_gateway", env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert "DATABASE_URL" in log.decode()
