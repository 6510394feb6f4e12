"""From a create form to a checked call request, with Twilio's error codes."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from callfleet_simulator.amd import AmdSettings
from callfleet_simulator.callbacks import EVENTS
from callfleet_simulator.calls import CallRequest
from callfleet_simulator.errors import invalid
from callfleet_simulator.forms import Form

E164 = re.compile(r"\+[1-9]\d{6,14}")

UNSUPPORTED = ("ApplicationSid", "SendDigits", "Record", "SipAuthUsername", "Trim")


def call_request(form: Form) -> CallRequest:
    """Checks a form of POST Calls.json. Raises ApiError: 21201, 21211, 21213, 21212, 21205, 21609, 20001."""
    to, from_ = form.text("To"), form.text("From")
    if to is None:
        raise invalid(21201, "No 'To' number is specified")
    if E164.fullmatch(to) is None:
        raise invalid(21211, "The phone number you are attempting to call is not valid.")
    if from_ is None:
        raise invalid(21213, "No 'From' number is specified")
    if E164.fullmatch(from_) is None:
        raise invalid(21212, "The 'From' number is not a valid phone number or shortcode.")
    _refuse_unsupported(form)
    url = form.text("Url")
    twiml = form.text("Twiml") if url is None else None  # as documented: ignored when Url is present
    if url is None and twiml is None:
        raise invalid(21205, "Url parameter is required.")
    check_url(url, 21205, "Url")
    check_url(form.text("FallbackUrl"), 21205, "FallbackUrl")
    check_url(form.text("StatusCallback"), 21609, "StatusCallback")
    return CallRequest(
        to=to,
        from_=from_,
        url=url,
        method=http_method(form, "Method"),
        twiml=twiml,
        fallback_url=form.text("FallbackUrl"),
        fallback_method=http_method(form, "FallbackMethod"),
        status_callback=form.text("StatusCallback"),
        status_callback_method=http_method(form, "StatusCallbackMethod"),
        status_callback_events=_events(form),
        amd=_amd(form),
        ring_timeout_s=form.number("Timeout", 60, 1, 600),
        time_limit_s=form.number("TimeLimit", 14_400, 1, 86_400),
    )


def check_url(url: str | None, code: int, name: str) -> None:
    """Raises ApiError `code` unless the URL is absent or absolute http(s)."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and len(url) <= 4000
    except ValueError:
        usable = False
    if not usable:
        raise invalid(code, f"{name} is not a valid URL")


def http_method(form: Form, name: str) -> str:
    """GET or POST, POST by default. Raises ApiError 20001."""
    method = form.text(name) or "POST"
    if method.upper() not in {"GET", "POST"}:
        raise invalid(20001, f"Invalid parameter {name}: it must be GET or POST")
    return method.upper()


def _events(form: Form) -> frozenset[str]:
    """The wanted callback events. As at Twilio, one unknown name and none is delivered (warning 21626)."""
    events = form.all("StatusCallbackEvent")
    if not events:
        return frozenset({"completed"})
    wanted = frozenset(events)
    return wanted if wanted <= EVENTS else frozenset()


def _amd(form: Form) -> AmdSettings | None:
    """Answering machine detection; None when it is not asked for."""
    mode = form.text("MachineDetection")
    if mode is None or mode.lower() == "none":
        return None
    if mode not in {"Enable", "DetectMessageEnd"}:
        raise invalid(20001, "Invalid parameter MachineDetection: it must be Enable or DetectMessageEnd")
    check_url(form.text("AsyncAmdStatusCallback"), 11100, "AsyncAmdStatusCallback")
    return AmdSettings(
        wait_for_end=mode == "DetectMessageEnd",
        asynchronous=_flag(form, "AsyncAmd"),
        callback=form.text("AsyncAmdStatusCallback"),
        callback_method=http_method(form, "AsyncAmdStatusCallbackMethod"),
        timeout_s=form.number("MachineDetectionTimeout", 30, 3, 59),
        speech_threshold_ms=form.number("MachineDetectionSpeechThreshold", 2400, 1000, 6000),
        speech_end_threshold_ms=form.number("MachineDetectionSpeechEndThreshold", 1200, 500, 5000),
        silence_timeout_ms=form.number("MachineDetectionSilenceTimeout", 5000, 2000, 10_000),
    )


def _flag(form: Form, name: str) -> bool:
    text = (form.text(name) or "false").lower()
    if text not in {"true", "false"}:
        raise invalid(20001, f"Invalid parameter {name}: it must be true or false")
    return text == "true"


def _refuse_unsupported(form: Form) -> None:
    """Saying so beats pretending: what this simulator does not do yet is refused."""
    for name in UNSUPPORTED:
        value = form.text(name)
        if value is not None and value.lower() not in {"false", "do-not-trim", "trim-silence"}:
            raise invalid(20001, f"the simulator does not support the parameter {name} yet")
