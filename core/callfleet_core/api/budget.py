"""Budget: an amount of money that calls of a namespace must fit into."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from callfleet_core.api.common import (
    NOT_ABOVE,
    Condition,
    Currency,
    Money,
    TimeZone,
    conditions_field,
    list_map,
    rule,
    rules,
)
from callfleet_core.script import ApiModel


class BudgetLimits(ApiModel):
    """The limits, by window; at least one. Raising admits more calls, lowering is always allowed."""

    daily: Money | None = Field(default=None, description="From midnight to midnight in the budget's time zone.")
    monthly: Money | None = Field(default=None, description="By calendar month in the budget's time zone.")
    total: Money | None = Field(default=None, description="For ever.")


class BudgetSpec(ApiModel):
    """How much may be spent, and by whom."""

    currency: Currency = Field(default="USD", description="Cannot be changed.")
    time_zone: TimeZone = Field(default="UTC", description="Cannot be changed.")
    scope: Literal["Referenced", "Namespace"] = Field(
        default="Referenced", description="Namespace covers every call of the namespace; cannot be changed."
    )
    limits: BudgetLimits
    suspend: bool = Field(default=False, description="No new holds; what is held settles.")


class BudgetWindow(ApiModel):
    """One window's balance."""

    kind: Literal["Daily", "Monthly", "Total"]
    start: datetime | None = None
    end: datetime | None = None
    limit: Money
    held: Money
    spent: str
    left: str = Field(description="What new holds may take; negative after the limit was lowered.")


class BudgetStatus(ApiModel):
    """The balances, as of a moment; the ledger has the truth."""

    observed_generation: int | None = Field(default=None, description="The generation in force in the ledger.")
    windows: list[BudgetWindow] = Field(default_factory=list, max_length=3, json_schema_extra=list_map("kind"))
    as_of: datetime | None = None
    conditions: list[Condition] = conditions_field()


SPEC_RULES: dict[str, Any] = rules(
    rule(
        "has(self.limits.daily) || has(self.limits.monthly) || has(self.limits.total)",
        "limits must hold at least one of daily, monthly and total",
    ),
    rule(NOT_ABOVE % ("daily", "monthly", "daily", "monthly"), "limits.daily must not be above limits.monthly"),
    rule(NOT_ABOVE % ("daily", "total", "daily", "total"), "limits.daily must not be above limits.total"),
    rule(NOT_ABOVE % ("monthly", "total", "monthly", "total"), "limits.monthly must not be above limits.total"),
    rule("self.currency == oldSelf.currency", "currency cannot be changed: make a new Budget instead"),
    rule("self.timeZone == oldSelf.timeZone", "timeZone cannot be changed: a change would open a second today"),
    rule("self.scope == oldSelf.scope", "scope cannot be changed: make a new Budget instead"),
)
