"""The pods that make a Campaign's calls: how many, how large, where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from callfleet_core.api.common import rule, rules
from callfleet_core.script import ApiModel

Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", max_length=16)]
# What Kubernetes takes for labels and taints.
LABEL_NAME_PATTERN = r"^([a-z0-9]([-a-z0-9.]{0,185}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

# What a worker may use where its campaign says nothing (P3 of docs/requirements.md), and how many calls fit into that:
# about 1 GB for the speech servers, on a GPU, and 250 MB a call (docs/worker.md). With less than the least it does not
# come up: at rest it holds 770 MB.
DEFAULT_MEMORY = "2Gi"
LEAST_MEMORY = "1Gi"
SLOTS_IN_DEFAULT_MEMORY = 4
LONGEST_CALL_S = 3600
LONGEST_RING_S = 120
LONGEST_QUEUE_S = 300
LONGEST_DRAIN_S = LONGEST_QUEUE_S + LONGEST_RING_S + LONGEST_CALL_S


class ResourceAmounts(ApiModel):
    """Kubernetes resource quantities."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    nvidia_com_gpu: int | None = Field(default=None, alias="nvidia.com/gpu", ge=0, le=8)


class Resources(ApiModel):
    """What a worker pod asks for and may use."""

    # Here, and not among the spec's rules: a stored Campaign that breaks it may be changed elsewhere.
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"!has(self.limits.memory) || quantity(self.limits.memory).compareTo(quantity('{LEAST_MEMORY}')) >= 0",
                f"limits.memory must be at least {LEAST_MEMORY}, or no worker comes up: raise it, or leave it out for"
                f" {DEFAULT_MEMORY}",
            )
        )
    )
    requests: ResourceAmounts = Field(default=ResourceAmounts())
    limits: ResourceAmounts = Field(
        default=ResourceAmounts.model_validate({"memory": DEFAULT_MEMORY, "nvidia.com/gpu": 1}),
        description="One GPU and 2Gi of memory unless said otherwise; memory has a limit, said or not.",
    )


class Toleration(ApiModel):
    """A taint that worker pods tolerate."""

    key: Annotated[str, StringConstraints(pattern=LABEL_NAME_PATTERN, max_length=253)] | None = None
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="Exists unless said.")
    value: Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Worker(ApiModel):
    """The pods that make the calls. Campaigns with the same worker share a pool."""

    image: Annotated[str, StringConstraints(pattern=r"^[!-~]+$", max_length=255)] | None = Field(
        default=None, description="The worker's image; the installation's own unless said."
    )
    slots_per_worker: int = Field(default=1, ge=1, le=10, description="Calls at once in a pod.")
    min_workers: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Pods kept warm while the campaign has people to call; the largest of those that share the pool.",
    )
    max_workers: int = Field(
        default=1, ge=1, le=100, description="The most pods; the largest of the campaigns that share the pool."
    )
    drain_seconds: int = Field(
        default=LONGEST_DRAIN_S,
        ge=10,
        le=LONGEST_DRAIN_S,
        description="How long a pod that is told to end waits for its calls; not below call.maxQueueSeconds,"
        " ringTimeoutSeconds and maxDurationSeconds together.",
    )
    resources: Resources = Field(default=Resources())
    tolerations: list[Toleration] = Field(default_factory=list, max_length=10)
