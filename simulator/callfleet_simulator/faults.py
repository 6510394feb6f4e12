"""Faults on demand: which, how often, on whom. Rules are data; what strikes is drawn from the seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from callfleet_simulator.errors import FaultError

MAX_RULES = 100

Number = Annotated[str, StringConstraints(pattern=r"^\+[1-9]\d{6,14}$")]
Operation = Literal["create", "fetch", "list", "update", "delete", "usage"]
Event = Literal["initiated", "ringing", "answered", "completed"]


class Kind(StrEnum):
    """What goes wrong."""

    TOO_MANY_REQUESTS = "tooManyRequests"
    SERVER_ERROR = "serverError"
    LOST_REPLY = "lostReply"
    SLOW_REPLY = "slowReply"
    DROPPED_CALLBACK = "droppedCallback"
    DUPLICATED_CALLBACK = "duplicatedCallback"
    REORDERED_CALLBACK = "reorderedCallback"
    DELAYED_CALLBACK = "delayedCallback"
    DYING_STREAM = "dyingStream"
    FROZEN_STREAM = "frozenStream"
    LATE_PRICE = "latePrice"


# What each kind may say beside how often and on whom.
_OWN: dict[Kind, set[str]] = {
    Kind.TOO_MANY_REQUESTS: {"requests"},
    Kind.SERVER_ERROR: {"requests", "status", "placed"},
    Kind.LOST_REPLY: {"requests"},
    Kind.SLOW_REPLY: {"requests", "after_s"},
    Kind.DROPPED_CALLBACK: {"events"},
    Kind.DUPLICATED_CALLBACK: {"events"},
    Kind.REORDERED_CALLBACK: {"events"},
    Kind.DELAYED_CALLBACK: {"events", "after_s"},
    Kind.DYING_STREAM: {"after_s"},
    Kind.FROZEN_STREAM: {"after_s"},
    Kind.LATE_PRICE: {"after_s"},
}
_COMMON = {"kind", "to", "next", "probability"}


class Fault(BaseModel):
    """One rule. Without `next` and `probability` it strikes once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    to: Number | None = Field(default=None, description="Only calls to this number; null: any.")
    next: int | None = Field(default=None, ge=1, le=100_000, description="It strikes so many times and is spent.")
    probability: float = Field(default=1.0, gt=0, le=1, description="How likely it strikes where it could.")
    requests: list[Operation] = Field(default=["create"], min_length=1, description="Which REST requests.")
    status: int = Field(default=500, ge=500, le=599, description="serverError: the HTTP status.")
    placed: bool = Field(default=False, description="serverError: the request takes effect all the same.")
    events: list[Event] = Field(default_factory=list, description="Which callbacks; none named: any.")
    after_s: tuple[float, float] = Field(default=(5.0, 5.0), description="Seconds, drawn between the two.")

    @model_validator(mode="before")
    @classmethod
    def _one_number_is_a_range(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("after_s"), int | float):
            return {**values, "after_s": (values["after_s"], values["after_s"])}
        return values

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        strange = self.model_fields_set - _COMMON - _OWN[self.kind]
        if strange:
            allowed = ", ".join(sorted(_OWN[self.kind] | (_COMMON - {"kind"})))
            raise ValueError(f"{self.kind} has no {', '.join(sorted(strange))}; it knows {allowed}")
        low, high = self.after_s
        if not 0 <= low <= high <= 86_400:
            raise ValueError("after_s must be seconds or [from, to] with 0 <= from <= to <= 86400")
        return self

    @property
    def bound(self) -> int | None:
        """How often it may strike; None: until it is removed."""
        return 1 if not {"next", "probability"} & self.model_fields_set else self.next


@dataclass(frozen=True)
class Strike:
    """A fault that strikes here and now."""

    fault: Fault
    after_s: float


@dataclass
class Armed:
    """A rule that is switched on. `left` None: no bound but its probability."""

    id: int
    fault: Fault
    left: int | None
    draw: random.Random = field(repr=False)
    struck: int = 0

    def shown(self) -> dict[str, object]:
        """For the admin endpoint."""
        given = self.fault.model_dump(mode="json", exclude_unset=True)
        return {"id": self.id, **given, "left": self.left, "struck": self.struck}


class Faults:
    """The rules that are switched on, in their order; the first that strikes is the one that does."""

    def __init__(self, rules: list[Fault], seed: int = 0) -> None:
        self._seed = seed
        self._last_id = 0
        self._armed: dict[int, Armed] = {}
        self._struck: Counter[str] = Counter()
        self.add_all(rules)

    def _add(self, fault: Fault) -> Armed:
        self._last_id += 1
        draw = random.Random(f"{self._seed}/{self._last_id}")  # noqa: S311 - drawn to be repeatable, not secret
        armed = Armed(self._last_id, fault, fault.bound, draw)
        self._armed[armed.id] = armed
        return armed

    def add_all(self, faults: list[Fault]) -> list[Armed]:
        """Switches several rules on, or none of them. Raises FaultError."""
        if len(self._armed) + len(faults) > MAX_RULES:
            raise FaultError(f"more than {MAX_RULES} faults: remove some first (DELETE /simulator/faults)")
        return [self._add(fault) for fault in faults]

    def remove(self, fault_id: int) -> bool:
        """Switches a rule off; False when there is none of that number."""
        return self._armed.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Switches all rules off."""
        self._armed.clear()

    def struck(self) -> dict[str, int]:
        """How often each kind struck since the start."""
        return dict(self._struck)

    def shown(self) -> list[dict[str, object]]:
        """Every rule, spent ones too."""
        return [armed.shown() for armed in self._armed.values()]

    def strike(
        self, kind: Kind, to: str | None, *, request: Operation | None = None, event: str | None = None
    ) -> Strike | None:
        """The fault of this kind that strikes here, if one does; it is then one strike nearer to being spent."""
        for armed in self._armed.values():
            fault = armed.fault
            if fault.kind is not kind or armed.left == 0 or (fault.to is not None and fault.to != to):
                continue
            if (request is not None and request not in fault.requests) or (fault.events and event not in fault.events):
                continue
            if armed.draw.random() >= fault.probability:
                continue
            armed.struck += 1
            self._struck[kind.value] += 1
            armed.left = None if armed.left is None else armed.left - 1
            return Strike(fault, armed.draw.uniform(*fault.after_s))
        return None
