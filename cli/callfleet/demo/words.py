"""States, reasons and typed answers in a person's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from callfleet.demo.scene import SessionLine

STATES = {
    "Admitted": "its money is held, it is dialled next",
    "Dialing": "ringing",
    "InProgress": "on the line",
    "Pending": "in the queue",
}
REASONS = {
    "BudgetExhausted": "waits for money",
    "BudgetHeld": "waits for money that calls in progress hold",
    "BudgetNotFound": "waits: its budget does not exist",
    "PerCallLimit": "waits: its worst case is above the limit for one call",
    "CurrencyMismatch": "waits: its budget has another currency",
    "NoCapacity": "waits for a free worker",
    "Pacing": "waits for its turn",
    "NumberBusy": "waits: its number is in another call",
    "DoNotCall": "not called: asked not to be",
    "NoConsent": "not called: gave no consent",
    "RetryScheduled": "is tried again",
    "Suspended": "waits: its campaign is suspended",
    "Stopped": "waits: everything is stopped",
    "DialOutcomeUnknown": "the carrier does not say what became of it",
}
DISPOSITIONS = {
    "qualified": "qualified",
    "notQualified": "not qualified",
    "notInterested": "not interested",
    "optedOut": "never call again",
    "incomplete": "incomplete",
    "wrongPerson": "wrong person",
    "noAnswer": "no answer",
}
CURRENCY_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def spaced(name: str) -> str:
    """`decision_maker` and `DecisionMaker` as `decision maker`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ").replace("-", " ")).lower()


def disposition_words(disposition: str | None) -> str:
    """How a call counts, in words."""
    if disposition is None:
        return "no outcome"
    return DISPOSITIONS.get(disposition) or spaced(disposition)


def session_words(line: SessionLine) -> str:
    """What a session does or waits for, and the money missing."""
    if line.state in {"Completed", "Failed", "Canceled"}:
        parts = [disposition_words(line.disposition) if line.disposition else spaced(line.reason or line.state)]
        if line.duration_s:
            parts.append(f"{line.duration_s} s")
        if line.cost is not None:
            parts.append(f"cost {line.cost}")
        return ", ".join(parts)
    if line.state == "Pending" and line.reason:
        words = REASONS.get(line.reason) or f"waits: {spaced(line.reason)}"
        missing = f", {line.shortfall} missing" if line.shortfall else ""
        retry = f" at {line.retry_at[11:19]} UTC" if line.retry_at else ""
        return f"{words}{missing}{retry}"
    words = STATES.get(line.state) or spaced(line.state)
    return f"{words} ({line.held} held)" if line.held else words


def question_types(campaign: Path) -> dict[str, str]:
    """Each question's answer type, from the Campaigns in a file."""
    documents = [item for item in yaml.safe_load_all(campaign.read_text()) if isinstance(item, dict)]
    questions = [
        question
        for item in documents
        if item.get("kind") == "Campaign"
        for question in item.get("spec", {}).get("agent", {}).get("questions") or []
    ]
    return {question["name"]: question["type"] for question in questions}


def learned_words(fields: Mapping[str, Any], types: Mapping[str, str], currency: str) -> list[str]:
    """`budget: $450,000`, `timeline: 1 to 31 May 2026`: one text for each answer, in the order they were asked."""
    ordered: Sequence[str] = [name for name in types if name in fields] + [name for name in fields if name not in types]
    return [f"{spaced(name)}: {answer_words(str(fields[name]), types.get(name), currency)}" for name in ordered]


def answer_words(value: str, kind: str | None, currency: str) -> str:
    """A canonical answer (docs of the call script) as people write it; unknown shapes stay as they are."""
    try:
        if kind == "Money":
            amount = f"{Decimal(value):,f}"
            sign = CURRENCY_SIGNS.get(currency)
            return f"{sign}{amount}" if sign else f"{amount} {currency}"
        if kind == "DateRange":
            start, _, end = value.partition("/")
            return dates_words(date.fromisoformat(start), date.fromisoformat(end or start))
    except (InvalidOperation, ValueError):
        return value
    return f"“{value}”" if kind == "Text" else value


def dates_words(start: date, end: date) -> str:
    """`1 to 31 May 2026`, `15 May to 3 June 2026`, `5 May 2026`; no more of a date than tells it apart."""
    last = f"{end.day} {end:%B %Y}"
    if start == end:
        return last
    if (start.year, start.month) == (end.year, end.month):
        return f"{start.day} to {last}"
    first = f"{start.day} {start:%B}" if start.year == end.year else f"{start.day} {start:%B %Y}"
    return f"{first} to {last}"
