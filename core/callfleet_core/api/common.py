"""What the three kinds share: money, names, conditions, rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from callfleet_core.money import MONEY_PATTERN
from callfleet_core.script import ApiModel

Money = Annotated[str, StringConstraints(pattern=MONEY_PATTERN, max_length=16)]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$", max_length=63)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3)]
RunId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?$", max_length=16)]
_ZONE_PATTERN = r"^[A-Za-z_+\-0-9/]+$"
_ZONE_MAX_LENGTH = 64
# The API server asks its own time zone database, and raises where that has none of the name. By itself it would also
# take offsets, its machine's zone (Local, localtime), Factory, leap seconds (right/…) and doubled slashes, which Python
# reads otherwise or not at all. A stored zone that is older than the rule is let be: the server's own leniency towards
# what did not change ends where a rule raises, and such an object could not even be deleted.
_ZONE_RULE = (
    "oldSelf.hasValue() && oldSelf.value() == self || self.matches('^[A-Z][^/:]*(/[A-Z][^/:]*)%s$')"
    " && !(self in ['Local', 'Factory']) && timestamp('2024-01-01T00:00:00Z').getHours(self) >= 0"
)


# Where a schema keeps its CEL rules.
VALIDATIONS = "x-kubernetes-validations"


def _zone_schema(slashes: str, message: str) -> WithJsonSchema:
    """What the door asks of a zone; `slashes`: how many its name may have, as in a pattern.

    The type itself asks for less: whatever is stored must be read.
    """
    return WithJsonSchema(
        {
            "type": "string",
            "maxLength": _ZONE_MAX_LENGTH,
            "pattern": _ZONE_PATTERN,
            VALIDATIONS: [{"rule": _ZONE_RULE % slashes, "message": message, "optionalOldSelf": True}],
        }
    )


_ZoneName = Annotated[str, StringConstraints(pattern=_ZONE_PATTERN, max_length=_ZONE_MAX_LENGTH)]
TimeZone = Annotated[
    _ZoneName, _zone_schema("*", "must be a time zone of the IANA database, such as Europe/Berlin, or UTC")
]
# Bare names such as CET are left out: PostgreSQL, which judges people's hours, has other rules for some of them.
PersonZone = Annotated[
    _ZoneName, _zone_schema("+", "must be a time zone of the IANA database, Area/City, such as America/New_York")
]
# Not `format: date-time`: the API server takes a list for one, and years that no clock has.
_MOMENT_RULE = {
    "rule": "timestamp(self) >= timestamp('2000-01-01T00:00:00Z')"
    " && timestamp(self) < timestamp('2100-01-01T00:00:00Z')",
    "message": "must be a moment of this century, such as 2026-01-31T09:00:00Z",
}
Moment = Annotated[
    datetime,
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 35,
            # Go takes offsets up to 24:59, pydantic up to 23:59, PostgreSQL up to 15:59; clocks have 14:00 at most.
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-](0\d|1[0-5]):[0-5]\d)$",
            VALIDATIONS: [_MOMENT_RULE],
        }
    ),
]
Message = Annotated[str, StringConstraints(max_length=1024)]


# CEL: a limit is absent, or not above a larger window's. Filled with the smaller and the larger name, twice.
NOT_ABOVE = (
    "!has(self.limits.%s) || !has(self.limits.%s) || quantity(self.limits.%s).compareTo(quantity(self.limits.%s)) <= 0"
)


class Condition(ApiModel):
    """One aspect of an object's state, as in every Kubernetes API."""

    type: Annotated[str, StringConstraints(max_length=63)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, StringConstraints(max_length=63)]
    message: Message
    observed_generation: int | None = None
    last_transition_time: datetime


def rule(expression: str, message: str, **extra: Any) -> dict[str, Any]:
    """One CEL rule of a CRD, with the sentence that a user reads when it is broken."""
    return {"rule": expression, "message": message, **extra}


def rules(*entries: dict[str, Any]) -> dict[str, Any]:
    """A model's CEL rules, for json_schema_extra."""
    return {VALIDATIONS: list(entries)}


def list_map(*keys: str) -> dict[str, Any]:
    """Marks a list as a map by `keys`, so that the API server refuses duplicates."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def conditions_field() -> Any:
    """The conditions of a status: Unknown on first visit, by the schema's default."""
    return Field(
        default_factory=list, max_length=16, json_schema_extra=list_map("type"), description="What holds, by type."
    )
