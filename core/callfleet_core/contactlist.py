"""Contacts as a CSV file: what a ConfigMap or a Secret holds. A list is taken whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

from callfleet_core.contacts import ConsentIn, ContactIn
from callfleet_core.errors import CallFleetError, PhoneError
from callfleet_core.phone import normalise

COLUMNS = ("phone", "name", "consent_kind", "consent_source", "consent_time")
MAX_CONTACTS = 20_000  # a ConfigMap holds 1 MiB
MAX_PROBLEMS_TOLD = 5
MAX_NAME, MAX_KIND, MAX_SOURCE = 100, 63, 200


class ContactListError(CallFleetError, ValueError):
    """A list that cannot be used as it is; the text names rows and what to change, and nobody's number or name."""


def parse_contacts(text: str) -> list[ContactIn]:
    """The contacts of a CSV file with a header line: phone, and if known name, consent_kind, consent_source,
    consent_time (ISO 8601 with a zone). Columns may come in any order.

    Raises ContactListError listing the first problems by row.
    """
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), strict=True)
    header = tuple(name.strip() for name in reader.fieldnames or ())
    _check_header(header)
    reader.fieldnames = list(header)
    contacts: list[ContactIn] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, row in _rows(reader):
        try:
            contact = _contact(row)
            if contact.phone in seen:
                raise ContactListError(f"the same number as in row {seen[contact.phone]}: keep one of them")
            seen[contact.phone] = number
            contacts.append(contact)
        except (ContactListError, PhoneError) as error:
            problems.append(f"row {number}: {error}")
    if problems:
        more = f" (and {len(problems) - MAX_PROBLEMS_TOLD} more)" if len(problems) > MAX_PROBLEMS_TOLD else ""
        raise ContactListError("; ".join(problems[:MAX_PROBLEMS_TOLD]) + more)
    if not contacts:
        raise ContactListError("the list is empty: give at least one contact below the header line")
    return contacts


def _check_header(header: tuple[str, ...]) -> None:
    if "phone" not in header:
        raise ContactListError(f"the first line must name the columns, phone among them; known: {', '.join(COLUMNS)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise ContactListError(f"{len(unknown)} columns are unknown; known: {', '.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise ContactListError("a column is named twice in the first line: keep one of them")


def _rows(reader: csv.DictReader[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for number, row in enumerate(reader, start=2):
            if number - 1 > MAX_CONTACTS:
                raise ContactListError(f"more than {MAX_CONTACTS} contacts: split the list")
            if None in row:
                raise ContactListError(f"row {number}: more fields than columns: quote fields that hold a comma")
            yield number, {key: (value or "").strip() for key, value in row.items()}
    except csv.Error as error:
        raise ContactListError(f"row {reader.line_num}: not CSV: {error}") from error


def _contact(row: dict[str, str]) -> ContactIn:
    name = row.get("name") or None
    if name and len(name) > MAX_NAME:
        raise ContactListError(f"the name is longer than {MAX_NAME} characters: shorten it")
    return ContactIn(normalise(row["phone"]), name, _consent(row))


def _consent(row: dict[str, str]) -> ConsentIn | None:
    kind, source, time = (row.get(f"consent_{part}", "") for part in ("kind", "source", "time"))
    if not (kind or source or time):
        return None
    if not (kind and source and time):
        raise ContactListError("a consent needs all of consent_kind, consent_source and consent_time")
    if len(kind) > MAX_KIND or len(source) > MAX_SOURCE:
        raise ContactListError(f"consent_kind has at most {MAX_KIND} characters, consent_source at most {MAX_SOURCE}")
    try:
        given_at = datetime.fromisoformat(time)
    except ValueError as error:
        raise ContactListError("consent_time is not a time: write it like 2026-01-15T10:00:00Z") from error
    if given_at.tzinfo is None:
        raise ContactListError("consent_time has no zone: write it like 2026-01-15T10:00:00Z")
    return ConsentIn(kind, source, given_at.astimezone(UTC))
