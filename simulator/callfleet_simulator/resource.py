"""Calls and usage as Twilio's JSON: field names, RFC 2822 dates, strings for numbers."""

from __future__ import annotations

from datetime import date, datetime
from email.utils import format_datetime

from callfleet_simulator.billing import MICROS, price_text
from callfleet_simulator.calls import Call, now

API_VERSION = "2010-04-01"
CATEGORIES = ("calls-outbound", "calls-media-stream-minutes", "answering-machine-detection")
SUBRESOURCES = (
    "notifications", "recordings", "payments", "events", "siprec", "streams", "transcriptions",
    "user_defined_message_subscriptions", "user_defined_messages",
)  # fmt: skip


def rfc2822(moment: datetime | None) -> str | None:
    """`Mon, 15 Aug 2005 15:52:01 +0000`, or None."""
    return None if moment is None else format_datetime(moment.replace(microsecond=0))


def _formatted(number: str) -> str:
    """North American numbers for display, "(555) 010-0100"; others stay in E.164."""
    if number.startswith("+1") and len(number) == 12:
        return f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    return number


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def call_json(call: Call, currency: str) -> dict[str, object]:
    """The Call resource, field by field as the 2010-04-01 API returns it."""
    base = f"/{API_VERSION}/Accounts/{call.account_sid}/Calls/{call.sid}"
    return {
        "sid": call.sid,
        "date_created": rfc2822(call.date_created),
        "date_updated": rfc2822(call.date_updated),
        "parent_call_sid": None,
        "account_sid": call.account_sid,
        "to": call.request.to,
        "to_formatted": _formatted(call.request.to),
        "from": call.request.from_,
        "from_formatted": _formatted(call.request.from_),
        "phone_number_sid": None,
        "status": call.status.value,
        "start_time": rfc2822(call.start_time),
        "end_time": rfc2822(call.end_time),
        "duration": None if call.duration_s is None else str(call.duration_s),
        "price": None if call.price_micros is None else price_text(call.price_micros),
        "price_unit": currency,
        "direction": "outbound-api",
        "answered_by": call.answered_by,
        "api_version": API_VERSION,
        "forwarded_from": None,
        "group_sid": None,
        "caller_name": None,
        "queue_time": str(call.queue_ms),
        "stir_verstat": None,
        "trunk_sid": None,
        "uri": f"{base}.json",
        "subresource_uris": {name: f"{base}/{_camel(name)}.json" for name in SUBRESOURCES},
    }


def usage_json(
    account_sid: str, category: str, calls: list[Call], span: tuple[date, date], currency: str
) -> dict[str, object]:
    """One usage record of one of `CATEGORIES` over these calls."""
    if category == "calls-outbound":
        minutes = sum(call.billed_minutes for call in calls)
        micros = sum(call.price_micros or 0 for call in calls)
        count, description = sum(call.answered for call in calls), "Outbound Voice Minutes"
    elif category == "answering-machine-detection":
        minutes = count = sum(call.amd_micros > 0 for call in calls)
        micros, description = sum(call.amd_micros for call in calls), "Answering Machine Detection"
    else:
        minutes = sum(call.stream_minutes for call in calls)
        micros = sum(call.stream_micros for call in calls)
        count, description = sum(call.stream_minutes > 0 for call in calls), "Media Stream Minutes"
    query = f"Category={category}&StartDate={span[0]}&EndDate={span[1]}"
    return {
        "account_sid": account_sid,
        "api_version": API_VERSION,
        "as_of": now().strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        "category": category,
        "count": str(count),
        "count_unit": "calls",
        "description": description,
        "start_date": span[0].isoformat(),
        "end_date": span[1].isoformat(),
        "price": f"{micros // MICROS}.{micros % MICROS:06d}",
        "price_unit": currency.lower(),
        "subresource_uris": {},
        "uri": f"/{API_VERSION}/Accounts/{account_sid}/Usage/Records.json?{query}",
        "usage": str(minutes),
        "usage_unit": "calls" if category == "answering-machine-detection" else "minutes",
    }
