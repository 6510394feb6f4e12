"""Campaign: whom to call, what to ask, within which limits."""

from __future__ import annotations

from datetime import datetime
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from callfleet_core.api.common import (
    NOT_ABOVE,
    Condition,
    Currency,
    Message,
    Money,
    ObjectName,
    RunId,
    TimeZone,
    conditions_field,
    list_map,
    rule,
    rules,
)
from callfleet_core.api.contacts import Contacts, PhoneNumber
from callfleet_core.api.questions import QUESTION_RULES
from callfleet_core.api.schedule import ZONE_RULE, Schedule
from callfleet_core.api.worker import (
    DEFAULT_MEMORY,
    LONGEST_CALL_S,
    LONGEST_QUEUE_S,
    LONGEST_RING_S,
    SLOTS_IN_DEFAULT_MEMORY,
    Worker,
)
from callfleet_core.script import MOST_QUESTIONS, TEXT_PATTERN, ApiModel, CallScript, Line, Question

# With up to three decimals; a rule of the spec says how much.
CallsPerSecond = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,3})?$", max_length=7)]


class CampaignLimits(ApiModel):
    """The campaign's own limits, beside those of the Budgets that cover it."""

    per_call: Money | None = Field(default=None, description="The most that one call's worst case may cost.")
    daily: Money | None = Field(default=None, description="The most a day, in the campaign's time zone.")
    monthly: Money | None = Field(default=None, description="The most a calendar month, in the campaign's time zone.")
    total: Money | None = Field(default=None, description="The most that the whole campaign may cost.")


class BudgetRef(ApiModel):
    """A Budget of the same namespace that must cover every call of the campaign."""

    name: ObjectName


class CarrierRef(ApiModel):
    """A Secret of the same namespace with a carrier account (docs/carriers.md)."""

    name: ObjectName


class CallSpec(ApiModel):
    """How a call is placed."""

    from_: list[PhoneNumber] = Field(alias="from", min_length=1, max_length=20, description="The caller's numbers.")
    max_duration_seconds: int = Field(
        default=300, ge=10, le=LONGEST_CALL_S, description="The carrier ends the call here."
    )
    ring_timeout_seconds: int = Field(default=30, ge=5, le=LONGEST_RING_S, description="How long it may ring.")
    max_queue_seconds: int = Field(
        default=30, ge=5, le=LONGEST_QUEUE_S, description="How long the carrier may queue it."
    )

    @property
    def longest_s(self) -> int:
        """From the moment at which a call is begun to the end of its talk, in seconds, at most."""
        return self.max_queue_seconds + self.ring_timeout_seconds + self.max_duration_seconds


class Pacing(ApiModel):
    """How fast the campaign calls."""

    calls_per_second: CallsPerSecond | None = Field(
        default=None,
        description='The most calls begun a second, as a decimal such as "0.5" (one call in two seconds); only its'
        " carrier account's pace unless said.",
    )
    max_concurrent: int = Field(default=10, ge=1, le=1000, description="The most calls at once.")


class RetryAfterMinutes(ApiModel):
    """How long to wait before another attempt."""

    busy: int = Field(default=15, ge=1, le=10080)
    no_answer: int = Field(default=240, ge=1, le=10080)


class Attempts(ApiModel):
    """How often a person is tried; revoked attempts do not count."""

    max: int = Field(default=1, ge=1, le=10)
    retry_after_minutes: RetryAfterMinutes = Field(default=RetryAfterMinutes())


class Llm(ApiModel):
    """The language model."""

    model: Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$")] = Field(
        description="Its name as Ollama knows it; a changed one is pulled first, and the old one serves meanwhile."
    )


class Agent(ApiModel):
    """What the agent says and asks."""

    persona: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=TEXT_PATTERN)]
    llm: Llm
    opening: Line = Field(description="The first words; say who calls and why.")
    closing: Line = Field(description="The last words.")
    questions: list[Question] = Field(
        min_length=1, max_length=MOST_QUESTIONS, json_schema_extra=list_map("name"), description="Asked in this order."
    )


class CampaignSpec(ApiModel):
    """What a campaign should do."""

    run_id: RunId = Field(
        default="1", alias="runID", description="A new value calls everybody afresh; otherwise nobody twice."
    )
    currency: Currency = Field(default="USD", description="Of all limits here; cannot be changed.")
    time_zone: TimeZone = Field(
        default="UTC",
        description="Of daily and monthly limits, of dates that people say, and of a schedule that goes by it;"
        " cannot be changed.",
    )
    carrier_ref: CarrierRef | None = Field(
        default=None, description="Whose account calls; the installation's unless said. Cannot be changed."
    )
    contacts: Contacts
    suspend: bool = Field(default=False, description="Admits no new calls; live ones finish.")
    deletion_policy: Literal["Drain", "HangUp"] = Field(
        default="Drain", description="What a deleted Campaign does with its live calls: lets them end, or ends them."
    )
    ttl_seconds_after_finished: int = Field(
        default=86400, ge=0, le=31536000, description="Finished CallSessions are deleted after so long; records stay."
    )
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher first, among all campaigns.")
    weight: int = Field(
        default=10,
        ge=1,
        le=100,
        description="Its share of the slots among campaigns of the same priority: twice the weight, twice the calls at"
        " once.",
    )
    limits: CampaignLimits = Field(default=CampaignLimits())
    budget_refs: list[BudgetRef] = Field(
        default_factory=list,
        max_length=8,
        json_schema_extra=list_map("name"),
        description="Budgets that must all cover each call; a missing one makes calls wait.",
    )
    call: CallSpec
    schedule: Schedule | None = Field(default=None, description="When calls may begin; at any hour unless said.")
    pacing: Pacing = Field(default=Pacing())
    attempts: Attempts = Field(default=Attempts())
    agent: Agent
    worker: Worker = Field(default=Worker())
    look_ahead: int = Field(
        default=200,
        ge=1,
        le=5000,
        description="The most unfinished sessions kept as objects, beside 1,000 of people who wait for something of"
        " their own: a consent, a price, a retry, the hours of their time zone.",
    )

    def script(self) -> CallScript:
        """The call script as it is frozen into an attempt."""
        return CallScript(
            persona=self.agent.persona,
            llm_model=self.agent.llm.model,
            opening=self.agent.opening,
            closing=self.agent.closing,
            questions=self.agent.questions,
        )


class ContactCounts(ApiModel):
    """Contacts of the current run."""

    total: int = 0
    done: int = 0
    as_of: datetime | None = None


class SessionCounts(ApiModel):
    """Unfinished sessions by state."""

    pending: int = 0
    admitted: int = 0
    dialing: int = 0
    in_progress: int = 0


class Waiting(ApiModel):
    """Why sessions wait, by reason."""

    reason: Annotated[str, StringConstraints(max_length=63)]
    count: int
    shortfall: Money | None = Field(default=None, description="The least that is missing for one of them.")
    retry_at: datetime | None = None


class CampaignMoney(ApiModel):
    """What the campaign holds and has spent."""

    held: Money = "0"
    spent: Money = "0"
    as_of: datetime | None = None


class WorkerCounts(ApiModel):
    """The pool that serves the campaign."""

    ready: int = Field(default=0, description="Pods that take calls.")
    draining: int = Field(default=0, description="Pods that end with their last call.")
    slots_free: int = Field(default=0, description="Calls that could begin at once.")


class CampaignModel(ApiModel):
    """The language model: what calls are made with, and what is still being pulled."""

    serving: Annotated[str, StringConstraints(max_length=100)] | None = None
    pending: Annotated[str, StringConstraints(max_length=100)] | None = None


class CampaignStatus(ApiModel):
    """What a campaign does; a projection, PostgreSQL has the truth."""

    observed_generation: int | None = None
    run_id: RunId | None = Field(default=None, alias="runID")
    summary: Message | None = None
    progress: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, description="Done of total."
    )
    live: int | None = Field(default=None, description="Calls being dialled or talked.")
    waiting_count: int | None = Field(default=None, description="Sessions that wait.")
    contacts: ContactCounts | None = None
    sessions: SessionCounts | None = None
    waiting: list[Waiting] = Field(default_factory=list, max_length=16, json_schema_extra=list_map("reason"))
    money: CampaignMoney | None = None
    model: CampaignModel | None = None
    workers: WorkerCounts | None = None
    conditions: list[Condition] = conditions_field()


_DRAIN = "worker.drainSeconds"
_CALL = [f"call.{name}Seconds" for name in ("maxQueue", "ringTimeout", "maxDuration")]
_UNCHANGED = "self.%s == oldSelf.%s"
_GPU = "nvidia__dot__com__slash__gpu"
_TOLERATED = "!has(self.worker.tolerations) || self.worker.tolerations.all(t, %s)"
_REQUESTED = (
    "!has(self.worker.resources.requests.%s) || !has(self.worker.resources.limits.%s) || "
    "quantity(self.worker.resources.requests.%s).compareTo(quantity(self.worker.resources.limits.%s)) <= 0"
)

SPEC_RULES: dict[str, Any] = rules(
    *(
        rule(
            NOT_ABOVE % (low, high, low, high),
            f"limits.{low} must not be above limits.{high}: lower it, or raise limits.{high}",
        )
        for low, high in combinations(("perCall", "daily", "monthly", "total"), 2)
    ),
    rule(_UNCHANGED % ("currency", "currency"), "currency cannot be changed: make a new Campaign instead"),
    rule(_UNCHANGED % ("timeZone", "timeZone"), "timeZone cannot be changed: make a new Campaign instead"),
    rule(
        "has(self.carrierRef) == has(oldSelf.carrierRef) && "
        "(!has(self.carrierRef) || self.carrierRef.name == oldSelf.carrierRef.name)",
        "carrierRef cannot be changed: make a new Campaign instead",
    ),
    rule(
        "!has(self.pacing.callsPerSecond) || (quantity(self.pacing.callsPerSecond).isGreaterThan(quantity('0'))"
        " && quantity(self.pacing.callsPerSecond).compareTo(quantity('100')) <= 0)",
        "pacing.callsPerSecond must be above 0 and at most 100: to stop a campaign, set suspend",
    ),
    ZONE_RULE,
    rule(
        "self.runID != oldSelf.runID || self.contacts == oldSelf.contacts",
        "contacts cannot be changed within a run: give a new runID to call another list",
    ),
    rule(
        "[has(self.contacts.inline), has(self.contacts.configMapRef), has(self.contacts.secretRef),"
        " has(self.contacts.listRef)].filter(given, given).size() == 1",
        "contacts must have exactly one source: inline, configMapRef, secretRef or listRef",
    ),
    rule(
        "self.worker.minWorkers <= self.worker.maxWorkers",
        "worker.minWorkers must not be above worker.maxWorkers: lower it, or raise worker.maxWorkers",
    ),
    # A stored Campaign that breaks it may be changed elsewhere, so that it can be suspended.
    rule(
        f"self.{_DRAIN} >= {' + '.join(f'self.{name}' for name in _CALL)} || oldSelf.hasValue() && "
        + " && ".join(f"self.{name} == oldSelf.value().{name}" for name in (_DRAIN, *_CALL)),
        "worker.drainSeconds must not be below call.maxQueueSeconds, ringTimeoutSeconds and maxDurationSeconds"
        " together, or a worker that is told to end would hang up on people: raise it, or leave it out",
        optionalOldSelf=True,
    ),
    rule(
        f"self.worker.slotsPerWorker <= {SLOTS_IN_DEFAULT_MEMORY} || "
        "(has(self.worker.resources.limits.memory) && "
        f"quantity(self.worker.resources.limits.memory).isGreaterThan(quantity('{DEFAULT_MEMORY}')))",
        f"more than {SLOTS_IN_DEFAULT_MEMORY} slotsPerWorker need worker.resources.limits.memory above "
        f"{DEFAULT_MEMORY}: about 1 GB, and 250 MB for each call",
    ),
    *(
        rule(
            _REQUESTED % ((name,) * 4),
            f"worker.resources.requests.{name} must not be above worker.resources.limits.{name}",
        )
        for name in ("cpu", "memory")
    ),
    rule(
        f"!has(self.worker.resources.requests.{_GPU}) || (has(self.worker.resources.limits.{_GPU}) && "
        f"self.worker.resources.requests.{_GPU} == self.worker.resources.limits.{_GPU})",
        "worker.resources.requests of GPUs must be what worker.resources.limits says, or be left out",
    ),
    rule(
        _TOLERATED % "has(t.operator) && t.operator == 'Equal' || !has(t.value) || t.value == ''",
        "worker.tolerations with a value need the operator Equal",
    ),
    rule(
        _TOLERATED % "!has(t.operator) || t.operator != 'Equal' || (has(t.key) && t.key != '')",
        "worker.tolerations without a key need the operator Exists",
    ),
    *QUESTION_RULES,
)
METADATA_RULES = [rule("size(self.metadata.name) <= 40", "a Campaign's name has at most 40 characters: shorten it")]
