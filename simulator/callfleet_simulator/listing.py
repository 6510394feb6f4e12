"""Filtering and paging of call lists, as GET Calls.json does it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlencode

from callfleet_simulator.calls import Call, CallStatus
from callfleet_simulator.errors import invalid
from callfleet_simulator.forms import Form

FILTERS = (
    "To", "From", "Status", "ParentCallSid",
    "StartTime", "StartTime<", "StartTime>", "EndTime", "EndTime<", "EndTime>",
)  # fmt: skip


def matching(calls: Iterable[Call], form: Form) -> list[Call]:
    """The calls that pass every given filter, in their order. Raises ApiError 20001 for a bad one."""
    status = form.text("Status")
    if status is not None and status not in set(CallStatus):
        raise invalid(20001, "Invalid parameter Status")
    wanted = {"To": form.text("To"), "From": form.text("From"), "Status": status}
    spans = {name: _span(form, name) for name in ("StartTime", "EndTime")}

    def passes(call: Call) -> bool:
        actual = {"To": call.request.to, "From": call.request.from_, "Status": call.status.value}
        if any(value is not None and actual[name] != value for name, value in wanted.items()):
            return False
        return _within(call.start_time, spans["StartTime"]) and _within(call.end_time, spans["EndTime"])

    if form.text("ParentCallSid") is not None:
        return []  # no call here has children
    return [call for call in calls if passes(call)]


Span = tuple[datetime | None, datetime | None]


def _within(moment: datetime | None, span: Span) -> bool:
    low, high = span
    if low is None and high is None:
        return True
    if moment is None:  # a call that is still queued has no start, and is not found by one
        return False
    return (low is None or moment >= low) and (high is None or moment < high)


def _span(form: Form, name: str) -> Span:
    """[from, to) of `Name=day`, `Name>=moment`, `Name<=moment` (the SDK sends `Name>` and `Name<`)."""
    low = high = None
    if (exact := form.text(name)) is not None:
        low, step = _moment(exact, name)
        high = low + step
    if (after := form.text(f"{name}>")) is not None:
        low, _ = _moment(after, name)
    if (before := form.text(f"{name}<")) is not None:
        start, step = _moment(before, name)
        high = start + step
    return low, high


def _moment(text: str, name: str) -> tuple[datetime, timedelta]:
    """A date (a whole UTC day) or a UTC date and time (a second), and how much it spans."""
    try:
        if "T" not in text:
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC), timedelta(days=1)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(20001, f"Invalid parameter {name}: write YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC), timedelta(seconds=1)


def page(key: str, path: str, rows: list[dict[str, object]], form: Form) -> dict[str, object]:
    """One page of rows in Twilio's envelope, with the URIs of its neighbours."""
    size = form.number("PageSize", 50, 1, 1000)
    number = form.number("Page", 0, 0, 1_000_000)
    start = number * size
    shown = rows[start : start + size]

    def uri(index: int) -> str:
        kept = [(name, value) for name in (*FILTERS, "Category", "StartDate", "EndDate") for value in form.all(name)]
        return f"{path}?{urlencode([*kept, ('PageSize', size), ('Page', index)])}"

    return {
        key: shown,
        "first_page_uri": uri(0),
        "previous_page_uri": uri(number - 1) if number else None,
        "next_page_uri": uri(number + 1) if start + size < len(rows) else None,
        "uri": uri(number),
        "page": number,
        "page_size": size,
        "start": start,
        "end": start + max(0, len(shown) - 1),
    }
