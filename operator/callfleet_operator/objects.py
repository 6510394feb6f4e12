"""Kubernetes objects as the reconcilers see them: parsed once, compared by resourceVersion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from callfleet_core.api.budget import BudgetSpec
from callfleet_core.api.callsession import TERMINAL_STATES, CallSessionSpec, SessionState
from callfleet_core.api.campaign import CampaignSpec

POOL_LABEL = "callfleet.dev/pool"
# On a pod while a call may be on it; what the workers' PodDisruptionBudget selects.
IN_CALL_LABEL = "callfleet.dev/in-call"
EPOCH_ANNOTATION = "callfleet.dev/epoch"
# What a pod was made for and with: once its pool is nobody's any more, this says whose calls it may still take.
CAMPAIGNS_ANNOTATION = "callfleet.dev/campaigns"
SLOTS_ANNOTATION = "callfleet.dev/slots"
SERVES_ANNOTATION = "callfleet.dev/serves"
SETTLE_FINALIZER = "callfleet.dev/settle"
DRAIN_FINALIZER = "callfleet.dev/drain"
_LONGEST_NUMBER = 9
CAMPAIGN_LABEL = "callfleet.dev/campaign"


class Key(NamedTuple):
    """What the work queue works on: a kind (or a singleton job), a namespace, a name."""

    kind: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Meta:
    """The metadata that reconcilers use."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleted: bool
    annotations: dict[str, str]
    finalizers: tuple[str, ...] = ()

    @property
    def version(self) -> tuple[str, int]:
        """What a spec is known by: UID and generation."""
        return self.uid, self.generation

    @classmethod
    def of(cls, body: dict[str, Any]) -> Meta:
        """The metadata of an object's body."""
        meta = body["metadata"]
        return cls(
            namespace=meta.get("namespace", ""),
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 1)),
            resource_version=meta["resourceVersion"],
            created=parse_time(meta["creationTimestamp"]),
            deleted="deletionTimestamp" in meta,
            annotations=meta.get("annotations") or {},
            finalizers=tuple(meta.get("finalizers") or ()),
        )


@dataclass(frozen=True)
class Campaign:
    """A Campaign; `status` is as last seen."""

    meta: Meta
    spec: CampaignSpec
    status: dict[str, Any]

    @classmethod
    def of(cls, body: dict[str, Any]) -> Campaign:
        """Parses a body; the API server has validated it already."""
        return cls(Meta.of(body), CampaignSpec.model_validate(body["spec"]), body.get("status") or {})


@dataclass(frozen=True)
class Budget:
    """A Budget; `status` is as last seen."""

    meta: Meta
    spec: BudgetSpec
    status: dict[str, Any]

    @classmethod
    def of(cls, body: dict[str, Any]) -> Budget:
        """Parses a body; the API server has validated it already."""
        return cls(Meta.of(body), BudgetSpec.model_validate(body["spec"]), body.get("status") or {})


@dataclass(frozen=True)
class Session:
    """A CallSession; `status` is as last seen."""

    meta: Meta
    spec: CallSessionSpec
    status: dict[str, Any]

    @classmethod
    def of(cls, body: dict[str, Any]) -> Session:
        """Parses a body; the API server has validated it already."""
        return cls(Meta.of(body), CallSessionSpec.model_validate(body["spec"]), body.get("status") or {})

    @cached_property
    def state(self) -> SessionState:
        """Pending until somebody wrote another."""
        return SessionState(self.status.get("state") or SessionState.PENDING)

    @cached_property
    def position(self) -> int:
        """Its contact's place in the run; 0 for one made by hand."""
        return _number(self.meta.annotations.get("callfleet.dev/position", ""))

    @property
    def owner(self) -> Key:
        """Its Campaign's key; one that was made again under the name is not its own."""
        return Key("Campaign", self.meta.namespace, self.spec.campaign)

    def is_of(self, campaign: Campaign) -> bool:
        """Of the run that the Campaign makes now, and not of an earlier Campaign of its name."""
        return self.spec.run_id == campaign.spec.run_id and self.spec.campaign_uid in {None, campaign.meta.uid}

    def seconds_left(self, now: datetime) -> float | None:
        """For how long the call may still be begun (spec.notAfter); None: for ever."""
        return None if self.spec.not_after is None else (self.spec.not_after - now).total_seconds()

    @property
    def is_terminal(self) -> bool:
        """True once the session is over for good."""
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Unreadable:
    """An object whose spec today's types refuse: it was stored under another schema. `problem` names its fields."""

    meta: Meta
    status: dict[str, Any]
    problem: str
    spec: dict[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any], problem: str) -> Unreadable:
        """What is kept of such a body."""
        return cls(Meta.of(dict(body)), body.get("status") or {}, problem, dict(body.get("spec") or {}))


def problem_of(error: ValidationError) -> str:
    """Which fields of a spec are refused, and why; not what they hold, which may be somebody's number or name."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, ('spec', *item['loc'])))}: {item['msg']}" for item in problems)


class PodProblem(NamedTuple):
    """What keeps a pod from serving: Kubernetes' own reason and message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Pod:
    """A worker pod."""

    meta: Meta
    pool: str
    ready: bool
    finished: bool
    problem: PodProblem | None
    # Marked as one that may have a call.
    in_call: bool = False
    campaigns: tuple[str, ...] = ()
    slots: int = 0
    serves: str = ""

    @classmethod
    def of(cls, body: dict[str, Any]) -> Pod:
        """Reads what matters of a pod: is it ready, is it over, what keeps it from starting."""
        status = body.get("status", {})
        conditions = {item["type"]: item for item in status.get("conditions", [])}
        labels, meta = body["metadata"].get("labels", {}), Meta.of(body)
        return cls(
            meta=meta,
            pool=labels.get(POOL_LABEL, ""),
            ready=conditions.get("Ready", {}).get("status") == "True",
            finished=status.get("phase") in {"Succeeded", "Failed"},
            problem=_pod_problem(status, conditions),
            in_call=IN_CALL_LABEL in labels,
            campaigns=tuple(filter(None, meta.annotations.get(CAMPAIGNS_ANNOTATION, "").split(","))),
            slots=_number(meta.annotations.get(SLOTS_ANNOTATION, "")),
            serves=meta.annotations.get(SERVES_ANNOTATION, ""),
        )

    @property
    def serves_on(self) -> bool:
        """Neither over nor told to end."""
        return not self.finished and not self.meta.deleted


_STARTING = {None, "ContainerCreating", "PodInitializing"}


def _pod_problem(status: dict[str, Any], conditions: dict[str, Any]) -> PodProblem | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return PodProblem(scheduled.get("reason") or "Unschedulable", scheduled.get("message") or "")
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        ended = container.get("lastState", {}).get("terminated", {})
        last = f"last end: {ended.get('reason', 'unknown')}, exit code {ended.get('exitCode', '?')}" if ended else ""
        if waiting.get("reason") not in _STARTING:
            return PodProblem(waiting["reason"], "; ".join(filter(None, (waiting.get("message"), last))))
        if ended and not container.get("ready", False):
            # Between two starts it does not wait: the same trouble, whatever the moment.
            return PodProblem("ContainerRestarted", f"{container.get('restartCount', 0)} times; {last}")
    return _no_longer_ready(status, conditions.get("Ready", {}))


def _no_longer_ready(status: dict[str, Any], ready: dict[str, Any]) -> PodProblem | None:
    """A pod that was ready and is not, or whose node is gone; one that is still starting has no problem."""
    if status.get("phase") != "Running" or ready.get("status") in {None, "True"}:
        return None
    running = [item.get("state", {}).get("running") or {} for item in status.get("containerStatuses", [])]
    # Kubernetes' times, which are of one precision, sort as text.
    since, began = ready.get("lastTransitionTime"), [item["startedAt"] for item in running if item.get("startedAt")]
    was_ready = bool(since and began) and since > max(began)
    if not was_ready and ready.get("reason") == "ContainersNotReady":
        return None
    return PodProblem(ready.get("reason") or "NotReady", ready.get("message") or "")


# What is watched, by kind.
Object = Campaign | Budget | Session | Pod
KINDS: Mapping[str, type[Object]] = {"Campaign": Campaign, "CallSession": Session, "Budget": Budget, "Pod": Pod}


def _number(text: str) -> int:
    """A number that an annotation holds; 0 for whatever else somebody wrote there ("²" is a digit, too)."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER else 0


def parse_time(value: str) -> datetime:
    """A Kubernetes timestamp, in UTC."""
    return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)


def format_micro_time(value: datetime) -> str:
    """A time as Kubernetes writes it in Leases, to the microsecond."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_time(value: datetime) -> str:
    """A time as Kubernetes writes it, to the second."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
