"""Contacts as CSV, row by row: what a ConfigMap or a Secret holds, and what is imported as a contact list."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from callfleet_core.contacts import ConsentIn, ContactIn
from callfleet_core.errors import CallFleetError, PhoneError
from callfleet_core.phone import normalise
from callfleet_core.windows import TimeZoneError, person_zone

COLUMNS = ("phone", "name", "consent_kind", "consent_source", "consent_time", "time_zone")
MAX_CONTACTS = 20_000  # a ConfigMap holds 1 MiB
MAX_PROBLEMS_TOLD = 5
MAX_NAME, MAX_KIND, MAX_SOURCE = 100, 63, 200
EMPTY = "the list is empty: give at least one contact below the header line"

# A row's number, counted from the header line's 1, and its contact, or what is wrong with it.
Row = tuple[int, "ContactIn | ContactListError"]


class ContactListError(CallFleetError, ValueError):
    """A list that cannot be used as it is; the text names rows and what to change, and nobody's number or name."""


def parse_contacts(text: str) -> list[ContactIn]:
    """The contacts of a CSV file, whole or not at all, at most MAX_CONTACTS; see read_contacts.

    Raises ContactListError listing the first problems by row.
    """
    contacts: list[ContactIn] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, item in read_contacts(io.StringIO(text)):
        if number - 1 > MAX_CONTACTS:
            raise ContactListError(
                f"more than {MAX_CONTACTS} contacts: split the list, or import it with callfleet contacts import"
            )
        if isinstance(item, ContactListError):
            problems.append(f"row {number}: {item}")
        elif item.phone in seen:
            problems.append(f"row {number}: {same_number(seen[item.phone])}")
        else:
            seen[item.phone] = number
            contacts.append(item)
    if problems:
        more = f" (and {len(problems) - MAX_PROBLEMS_TOLD} more)" if len(problems) > MAX_PROBLEMS_TOLD else ""
        raise ContactListError("; ".join(problems[:MAX_PROBLEMS_TOLD]) + more)
    if not contacts:
        raise ContactListError(EMPTY)
    return contacts


def read_contacts(lines: Iterable[str]) -> Iterator[Row]:
    """The rows of a CSV file with a header line: phone, and if known name, consent_kind, consent_source, consent_time
    (ISO 8601 with a zone), time_zone (Area/City). Columns may come in any order; the file is never held whole.

    Raises ContactListError for a header that cannot be used. What comes after a row that is not CSV is not read.
    """
    reader = csv.DictReader(_without_mark(lines), strict=True)
    try:
        header = tuple(name.strip() for name in reader.fieldnames or ())
    except csv.Error as error:
        raise ContactListError(f"the first line is not CSV: {error}") from error
    _check_header(header)
    reader.fieldnames = list(header)
    number = 1
    try:
        for number, row in enumerate(reader, start=2):
            yield number, _row(row)
    except csv.Error as error:
        yield number + 1, ContactListError(f"not CSV: {error}")


def same_number(row: int) -> str:
    """What is wrong with a row whose number an earlier one has."""
    return f"the same number as in row {row}: keep one of them"


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """Without the byte order mark that spreadsheets write."""
    for position, line in enumerate(lines):
        yield line.lstrip("\ufeff") if position == 0 else line


def _check_header(header: tuple[str, ...]) -> None:
    if "phone" not in header:
        raise ContactListError(f"the first line must name the columns, phone among them; known: {', '.join(COLUMNS)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise ContactListError(f"{len(unknown)} columns are unknown; known: {', '.join(COLUMNS)}")
    if len(set(header)) < len(header):
        raise ContactListError("a column is named twice in the first line: keep one of them")


def _row(row: dict[str | None, str | list[str] | None]) -> ContactIn | ContactListError:
    if None in row:
        return ContactListError("more fields than columns: quote fields that hold a comma")
    try:
        return _contact({str(key): str(value or "").strip() for key, value in row.items()})
    except ContactListError as error:
        return error
    except PhoneError as error:
        return ContactListError(str(error))


def _contact(row: dict[str, str]) -> ContactIn:
    if any("\0" in value for value in row.values()):
        raise ContactListError("a field holds a zero byte: save the file as UTF-8 text")
    name = row.get("name") or None
    if name and len(name) > MAX_NAME:
        raise ContactListError(f"the name is longer than {MAX_NAME} characters: shorten it")
    return ContactIn(normalise(row["phone"]), name, _consent(row), _time_zone(row.get("time_zone", "")))


def _time_zone(text: str) -> str | None:
    if not text:
        return None
    try:
        return person_zone(text)
    except TimeZoneError as error:
        raise ContactListError(f"time_zone: {error}") from error


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
    try:
        return ConsentIn(kind, source, given_at.astimezone(UTC))
    except OverflowError as error:
        raise ContactListError("consent_time is no time of this era: write it like 2026-01-15T10:00:00Z") from error
