"""Whom a Campaign calls: people in the object itself, or where a list of them is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from callfleet_core.api.common import Moment, ObjectName, PersonZone, list_map
from callfleet_core.phone import E164_PATTERN
from callfleet_core.script import TEXT_PATTERN, ApiModel

PhoneNumber = Annotated[str, StringConstraints(pattern=E164_PATTERN, max_length=16)]


class ConsentSpec(ApiModel):
    """That a person agreed to be called; without it the session waits with NoConsent."""

    kind: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=TEXT_PATTERN)] = Field(
        description='What was agreed to, such as "express-written".'
    )
    source: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=TEXT_PATTERN)] = Field(
        description="Where it can be proven: a form, a record's id."
    )
    time: Moment = Field(description="When it was given, such as 2026-01-31T09:00:00Z.")


class InlineContact(ApiModel):
    """A person to call."""

    phone: PhoneNumber = Field(description="In international form, e.g. +15550100001.")
    name: Annotated[str, StringConstraints(max_length=100, pattern=TEXT_PATTERN)] | None = None
    consent: ConsentSpec | None = None
    time_zone: PersonZone | None = Field(
        default=None, description="Where the person is, such as America/New_York; what the number tells unless said."
    )


class KeyRef(ApiModel):
    """A key of a ConfigMap or Secret in the campaign's namespace."""

    name: ObjectName
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)] = Field(
        default="contacts.csv",
        description="Holds CSV: phone, name, consent_kind, consent_source, consent_time, time_zone.",
    )


class ListRef(ApiModel):
    """A contact list of the campaign's namespace in the database."""

    name: ObjectName


class Contacts(ApiModel):
    """Where the contacts come from: exactly one source."""

    config_map_ref: KeyRef | None = Field(default=None, description="A CSV file in a ConfigMap.")
    secret_ref: KeyRef | None = Field(default=None, description="A CSV file in a Secret: the better place for people.")
    list_ref: ListRef | None = Field(
        default=None,
        description="A list made by `callfleet contacts import`, up to a million contacts; a newer import is followed.",
    )
    inline: list[InlineContact] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        json_schema_extra=list_map("phone"),
        description="The contacts themselves, at most 100, each number once.",
    )
