"""When a campaign may call: windows of the week, by the clock of whoever is called, and an end."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from callfleet_core.api.common import Moment, rule, rules
from callfleet_core.script import ApiModel

MOST_WINDOWS = 28

_HOUR_AND_MINUTE = r"([01][0-9]|2[0-3]):[0-5][0-9]"
From = Annotated[str, StringConstraints(pattern=f"^{_HOUR_AND_MINUTE}$", max_length=5)]
To = Annotated[str, StringConstraints(pattern=f"^({_HOUR_AND_MINUTE}|24:00)$", max_length=5)]


class Day(StrEnum):
    """A day of the week, in the order of ISO 8601."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


class CallingWindow(ApiModel):
    """Hours of some days of the week."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.from < self.to",
                "from must be before to: write hours over midnight as two windows, one to 24:00 and one from 00:00",
            )
        )
    )
    days: list[Day] = Field(
        min_length=1, max_length=7, json_schema_extra={"x-kubernetes-list-type": "set"}, description="Each day once."
    )
    from_: From = Field(alias="from", description='The first minute in which calls may begin, such as "09:00".')
    to: To = Field(description='The minute from which on none may begin; "24:00" is the end of the day.')


class Schedule(ApiModel):
    """When calls may begin; one that began in time goes on to its end."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.windows) || has(self.notAfter)",
                "schedule must have windows or notAfter: leave schedule out to call at any hour",
            )
        )
    )
    zone: Literal["Callee", "Campaign"] = Field(
        default="Callee",
        description="Whose clock the windows go by: that of whoever is called, who is not called while one of the time"
        " zones that the number may be in is outside of them, or if it tells none; or the campaign's timeZone.",
    )
    windows: list[CallingWindow] | None = Field(
        default=None, min_length=1, max_length=MOST_WINDOWS, description="Any hour unless said."
    )
    not_after: Moment | None = Field(default=None, description="From then on nobody is dialled.")


# Of the Campaign's spec: PostgreSQL knows a few bare names, such as CET, by other rules than the IANA database.
ZONE_RULE = rule(
    "!has(self.schedule) || !has(self.schedule.windows) || self.schedule.zone != 'Campaign'"
    " || self.timeZone == 'UTC' || self.timeZone.contains('/')",
    "schedule.zone Campaign needs a timeZone that is UTC or Area/City, such as Europe/Berlin",
)
