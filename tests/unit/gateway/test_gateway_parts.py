"""The gateway's pure parts: who is the carrier, what a leg looks like, what the environment must hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from pydantic import ValidationError
from twilio.request_validator import RequestValidator

from callfleet_gateway.legs import LegError, parse_leg
from callfleet_gateway.relay import _sendable
from callfleet_gateway.security import CarrierCheck
from callfleet_gateway.settings import GatewaySettings
from callfleet_gateway.webhooks import _timestamp

TOKEN = "a-made-up-token"
PUBLIC = "https://calls.example.invalid:8443/gate"
LEG = {"host": "10.0.0.7", "port": "40001", "generation": "1", "secret": "s" * 32}


def test_a_webhook_is_checked_over_the_public_url() -> None:
    check = CarrierCheck(TOKEN, PUBLIC)
    form = {"CallSid": "CA1", "Empty": ""}
    signature = RequestValidator(TOKEN).compute_signature(PUBLIC + "/twilio/status/1", form)
    assert check.webhook("/twilio/status/1", form, signature)
    assert not check.webhook("/twilio/status/2", form, signature)
    assert not check.webhook("/twilio/status/1", {**form, "CallSid": "CA2"}, signature)
    assert not check.webhook("/twilio/status/1", form, None)
    inside = RequestValidator(TOKEN).compute_signature("http://10.0.0.1:8080/twilio/status/1", form)
    assert not check.webhook("/twilio/status/1", form, inside)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_stream_is_checked_with_the_websocket_scheme(slash: str) -> None:
    check = CarrierCheck(TOKEN, PUBLIC)
    url = "wss://calls.example.invalid:8443/gate/twilio/media/1/2"
    assert check.stream("/twilio/media/1/2", RequestValidator(TOKEN).compute_signature(url + slash, {}))
    assert not check.stream("/twilio/media/1/2", RequestValidator("other").compute_signature(url, {}))
    assert not check.stream("/twilio/media/1/2", None)


def test_a_media_token_belongs_to_one_attempt_and_one_key() -> None:
    attempt, other = uuid4(), uuid4()
    check = CarrierCheck(TOKEN, PUBLIC)
    token = check.media_token(attempt)
    assert len(token) == 32
    assert check.stream_url("/twilio/media/1") == "wss://calls.example.invalid:8443/gate/twilio/media/1"
    assert check.media_token_is(attempt, token)
    assert not check.media_token_is(other, token)
    assert not check.media_token_is(attempt, "")
    assert CarrierCheck("other", PUBLIC).media_token(attempt) != token


def test_a_leg_becomes_a_url() -> None:
    attempt = uuid4()
    assert parse_leg(LEG).url(attempt) == f"ws://10.0.0.7:40001/media/{attempt}/{'s' * 32}"
    assert parse_leg({**LEG, "host": "fd00::7"}).url(attempt).startswith("ws://[fd00::7]:40001/")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "evil/path"),
        ("host", "user@host"),
        ("host", ""),
        ("port", "0"),
        ("port", "70000"),
        ("port", "http"),
        ("generation", ""),
        ("secret", "short"),
        ("secret", "s" * 16 + "/../.."),
    ],
)
def test_a_malformed_leg_is_refused_by_field_and_not_repeated(field: str, value: str) -> None:
    with pytest.raises(LegError, match=field) as refused:
        parse_leg({**LEG, field: value})
    assert not value or value not in str(refused.value)


def test_event_times_are_the_carriers_unless_they_are_absurd() -> None:
    past = datetime(2026, 11, 2, 15, 52, 1, tzinfo=UTC)
    assert _timestamp({"Timestamp": format_datetime(past)}) == past
    for form in ({}, {"Timestamp": "yesterday"}, {"Timestamp": format_datetime(datetime.now(UTC) + timedelta(days=1))}):
        assert abs(_timestamp(form) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(("code", "sent"), [(1000, 1000), (1001, 1001), (1005, 1001), (1006, 1001), (4000, 4000)])
def test_only_codes_that_may_be_sent_are_sent(code: int, sent: int) -> None:
    assert _sendable(code) == sent


SETTINGS = {
    "database_url": "postgresql://u:p@h/d",
    "redis_url": "redis://:p@h",
    "twilio_account_sid": "AC" + "0" * 32,
    "twilio_auth_token": TOKEN,
    "callfleet_public_url": "http://gateway.svc:8080/",
}


def test_settings_give_the_address_and_hide_secrets() -> None:
    settings = GatewaySettings.model_validate(SETTINGS)
    assert settings.callfleet_public_url == "http://gateway.svc:8080"
    assert settings.listen_address == ("0.0.0.0", 8080)  # noqa: S104 - compared, not bound
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("twilio_account_sid", "AC1"), ("callfleet_public_url", "gateway:8080"), ("database_url", "mysql://h/d")],
)
def test_wrong_settings_are_named(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        GatewaySettings.model_validate({**SETTINGS, name: value})
    assert refused.value.errors()[0]["loc"] == (name,)
