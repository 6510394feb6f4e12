"""CallSession: one contact's call, made by the operator from a Campaign, or by hand."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from callfleet_core.api.common import (
    VALIDATIONS,
    Condition,
    Currency,
    Moment,
    Money,
    ObjectName,
    RunId,
    conditions_field,
    rule,
    rules,
)
from callfleet_core.script import ApiModel

Uuid = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", max_length=36)
]


class SessionState(StrEnum):
    """A call's life (docs/architecture.md)."""

    PENDING = "Pending"
    ADMITTED = "Admitted"
    DIALING = "Dialing"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


TERMINAL_STATES = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELED})


class Reason(StrEnum):
    """Why a session waits, or ended as it did; a closed list."""

    BUDGET_EXHAUSTED = "BudgetExhausted"
    BUDGET_HELD = "BudgetHeld"
    BUDGET_NOT_FOUND = "BudgetNotFound"
    PER_CALL_LIMIT = "PerCallLimit"
    CURRENCY_MISMATCH = "CurrencyMismatch"
    NO_CAPACITY = "NoCapacity"
    CARRIER_NOT_READY = "CarrierNotReady"
    MODEL_NOT_READY = "ModelNotReady"
    PACING = "Pacing"
    NUMBER_BUSY = "NumberBusy"
    DO_NOT_CALL = "DoNotCall"
    NO_CONSENT = "NoConsent"
    NO_PRICE = "NoPrice"
    OUTSIDE_CALLING_HOURS = "OutsideCallingHours"
    RETRY_SCHEDULED = "RetryScheduled"
    SUSPENDED = "Suspended"
    STOPPED = "Stopped"
    DIAL_OUTCOME_UNKNOWN = "DialOutcomeUnknown"


class CallSessionSpec(ApiModel):
    """Whom to call, and the most it may cost."""

    campaign: ObjectName = Field(description="The Campaign whose script, budgets and worker serve this call.")
    campaign_uid: Uuid | None = Field(default=None, alias="campaignUID")
    campaign_generation: int | None = Field(default=None, ge=1)
    run_id: RunId = Field(default="1", alias="runID")
    contact_id: Uuid = Field(alias="contactID", description="Opaque; no number, no name.")
    priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="Of a session made by hand; others have their Campaign's, as it is now.",
    )
    currency: Currency = "USD"
    max_cost: Money | None = Field(
        default=None, description="A worst case above this waits with PerCallLimit. As priority."
    )
    max_duration_seconds: int = Field(
        default=300, ge=10, le=3600, description="The carrier ends the call here. As priority."
    )
    not_after: Moment | None = Field(
        default=None, description="From then on the call is not begun, and the session is canceled; a live one goes on."
    )
    cancel: bool = Field(default=False, description="True ends the call, or keeps it from being made; for good.")


class AttemptStatus(ApiModel):
    """The attempt that is open, or was the last."""

    id: Uuid
    number: int
    held: Money


class SessionResult(ApiModel):
    """How the call ended and what it cost."""

    disposition: Annotated[str, StringConstraints(max_length=63)] | None = None
    duration_seconds: int | None = None
    cost: Money | None = None
    settled: bool = False


class CallSessionStatus(ApiModel):
    """Where the call is; a projection, the attempt's row in PostgreSQL has the truth."""

    state: Literal["Pending", "Admitted", "Dialing", "InProgress", "Completed", "Failed", "Canceled"] = "Pending"
    reason: Annotated[str, StringConstraints(max_length=63)] | None = None
    shortfall: Money | None = Field(default=None, description="The money missing for this call.")
    retry_at: datetime | None = None
    attempt: AttemptStatus | None = None
    worker: Annotated[str, StringConstraints(max_length=253)] | None = None
    pod_uid: Uuid | None = Field(default=None, alias="podUID")
    call_sid: Annotated[str, StringConstraints(max_length=64)] | None = Field(default=None, alias="callSID")
    result: SessionResult | None = None
    conditions: list[Condition] = conditions_field()


# As a session is born: its turn has not come. Most wait for nothing else, and saying so to each would cost a write.
STATUS_DEFAULT: dict[str, Any] = {
    "state": SessionState.PENDING.value,
    "reason": Reason.NO_CAPACITY.value,
    "conditions": [
        {
            "type": "Admitted",
            "status": "Unknown",
            "reason": Reason.NO_CAPACITY.value,
            "message": "no worker's slot has been given to it yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ],
}


def frozen(spec: dict[str, Any]) -> dict[str, Any]:
    """A CallSession's spec, as a structural schema, with rules that refuse every change but a cancellation.

    A rule of a field looks at its value only. One of the object costs the API server copies of all its fields' schemas
    for each field that it reads, at every write of a status. But a field's rule is passed over where there was no value
    before: it does for what is required or has a default, and nothing else.
    """
    fields, optional = dict(spec["properties"]), []
    for name, field in spec["properties"].items():
        if _is_always_there(name, spec):
            kept = _STAYS if name == "cancel" else _unchanged(name, "self == oldSelf")
            fields[name] = {**field, **rules(*field.get(VALIDATIONS, ()), kept)}
        else:
            known = f"has(oldSelf.{name}) && self.{name} == oldSelf.{name}"
            optional.append(_unchanged(name, f"has(self.{name}) ? {known} : !has(oldSelf.{name})"))
    return {**spec, "properties": fields, **rules(*spec.get(VALIDATIONS, ()), *optional)}


def _is_always_there(name: str, spec: dict[str, Any]) -> bool:
    field = spec["properties"][name]
    return (name in spec["required"] or "default" in field) and not field.get("nullable")


_STAYS = rule("!oldSelf || self", "a canceled call stays canceled: make another CallSession instead")


def _unchanged(name: str, expression: str) -> dict[str, Any]:
    return rule(expression, f"{name} cannot be changed, only cancel can: delete the CallSession and make another")
