"""What the operator creates, as pure functions: sessions, pools, worker pods and their access."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from callfleet_core.api import API_VERSION
from callfleet_core.api.campaign import CampaignSpec
from callfleet_core.api.worker import DEFAULT_MEMORY, Worker
from callfleet_core.money import format_micros
from callfleet_core.runs import RunContact
from callfleet_operator.objects import (
    CAMPAIGN_LABEL,
    CAMPAIGNS_ANNOTATION,
    EPOCH_ANNOTATION,
    IN_CALL_LABEL,
    POOL_LABEL,
    SERVES_ANNOTATION,
    SETTLE_FINALIZER,
    SLOTS_ANNOTATION,
    Campaign,
)

MANAGED_BY = {"app.kubernetes.io/managed-by": "callfleet", "app.kubernetes.io/part-of": "callfleet"}
SERVICE_ACCOUNT = "callfleet-worker"
WORKER_UID = 10001
HEALTH_PORT = 8081
CARRIER_DIR = "/etc/callfleet/carrier"
# A drained worker may finish its calls (drainSeconds, never below their time limit) and say goodbye.
GRACE_BEYOND_DRAIN_S = 60
# Names of campaigns that a pod remembers; more share its pool only where somebody makes Campaigns by the hundred.
MAX_CAMPAIGNS_NAMED = 100
# What the NVIDIA driver lets a worker take of a GPU that is shared by MPS (docs/worker.md).
GPU_MEMORY = "4G"
DISRUPTION_BUDGET = "callfleet-workers-in-call"
# For pods without a controller Kubernetes counts with whole numbers only: more than there could be, so never one less.
NEVER_ONE_LESS = 1_000_000


@dataclass(frozen=True)
class PoolDefaults:
    """What a worker's spec leaves to the installation."""

    image: str
    secret: str
    carrier_secret: str
    keys_secret: str
    # With a new key comes a new pool: its workers can read the people who are stored under it.
    key_version: int
    device: str
    image_pull_policy: str
    # Which content of `secret`, as a hash: a worker that runs keeps the environment that it was started with.
    login_version: str = ""


def carrier_secret(spec: CampaignSpec, defaults: PoolDefaults) -> str:
    """The Secret with the account that the campaign's workers call with."""
    return spec.carrier_ref.name if spec.carrier_ref else defaults.carrier_secret


def pool_name(spec: CampaignSpec, defaults: PoolDefaults) -> str:
    """A pool's name: a hash of everything that makes its pods what they are."""
    seed = json.dumps(
        {
            "worker": spec.worker.model_dump(mode="json", exclude={"min_workers", "max_workers"}),
            "carrier": carrier_secret(spec, defaults),
            "defaults": defaults.__dict__,
        },
        sort_keys=True,
    )
    return f"pool-{hashlib.sha256(seed.encode()).hexdigest()[:8]}"


def serves(spec: CampaignSpec, defaults: PoolDefaults) -> str:
    """Whose calls a worker can make at all, as a hash: of the account it calls with, its logins, the people's keys."""
    seed = [carrier_secret(spec, defaults), defaults.secret, defaults.keys_secret, str(defaults.key_version)]
    return hashlib.sha256("|".join(seed).encode()).hexdigest()[:8]


def session(campaign: Campaign, contact: RunContact, ceiling_micros: int | None) -> dict[str, Any]:
    """The CallSession of one contact; nothing in it says who that is."""
    spec: dict[str, Any] = {
        "campaign": campaign.meta.name,
        "campaignUID": campaign.meta.uid,
        "campaignGeneration": campaign.meta.generation,
        "runID": campaign.spec.run_id,
        "contactID": str(contact.contact_id),
        "priority": campaign.spec.priority,
        "currency": campaign.spec.currency,
        "maxDurationSeconds": campaign.spec.call.max_duration_seconds,
    }
    if ceiling_micros is not None:
        spec["maxCost"] = format_micros(ceiling_micros)
    return {
        "apiVersion": API_VERSION,
        "kind": "CallSession",
        "metadata": {
            "name": contact.session_name,
            "namespace": campaign.meta.namespace,
            "labels": {CAMPAIGN_LABEL: campaign.meta.name, **MANAGED_BY},
            "annotations": {"callfleet.dev/position": str(contact.position)},
            "finalizers": [SETTLE_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "Campaign",
                    "name": campaign.meta.name,
                    "uid": campaign.meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


def pool_config_map(name: str, epoch: int) -> dict[str, Any]:
    """The object that owns a pool's pods; a Campaign must not, or its deletion would end live calls.

    With the epoch of the leader that makes pods, what an earlier one has seen of it is outdated.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {POOL_LABEL: name, **MANAGED_BY},
            "annotations": {EPOCH_ANNOTATION: str(epoch)},
        },
    }


def disruption_budget() -> dict[str, Any]:
    """What refuses the eviction of a worker while it has a call, in its namespace; idle workers may be evicted."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": DISRUPTION_BUDGET, "labels": MANAGED_BY},
        "spec": {
            "minAvailable": NEVER_ONE_LESS,
            # A worker that is not ready may still have calls.
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
            "selector": {"matchExpressions": [{"key": IN_CALL_LABEL, "operator": "Exists"}]},
        },
    }


def call_marks(epoch: int | None) -> dict[str, Any]:
    """The metadata that protects a worker with calls from evictions and autoscalers; None: it has none any more.

    The epoch makes each leader's mark another one, so that what an earlier leader decided of the pod is outdated.
    """
    busy = epoch is not None
    return {
        "labels": {IN_CALL_LABEL: "true" if busy else None},
        "annotations": {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false" if busy else "true",
            "karpenter.sh/do-not-disrupt": "true" if busy else None,
            EPOCH_ANNOTATION: str(epoch) if busy else None,
        },
    }


def worker_account() -> dict[str, Any]:
    """The workers' service account."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SERVICE_ACCOUNT, "labels": MANAGED_BY}}


def worker_role_binding(namespace: str, cluster_role: str) -> dict[str, Any]:
    """What lets a worker watch sessions and write their status, in its own namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": SERVICE_ACCOUNT, "labels": MANAGED_BY},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": namespace}],
    }


def worker_pod(
    name: str, pool: str, pool_uid: str, spec: CampaignSpec, defaults: PoolDefaults, campaigns: Sequence[str] = ()
) -> dict[str, Any]:
    """A worker pod: a GPU by default, its tolerations, probes, and a restricted security context."""
    worker = spec.worker
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {POOL_LABEL: pool, "app.kubernetes.io/name": "callfleet-worker", **MANAGED_BY},
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
                CAMPAIGNS_ANNOTATION: ",".join(sorted(campaigns)[:MAX_CAMPAIGNS_NAMED]),
                SLOTS_ANNOTATION: str(worker.slots_per_worker),
                SERVES_ANNOTATION: serves(spec, defaults),
            },
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": pool, "uid": pool_uid}],
        },
        "spec": {
            "serviceAccountName": SERVICE_ACCOUNT,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": worker.drain_seconds + GRACE_BEYOND_DRAIN_S,
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                *(item.model_dump(exclude_none=True) for item in worker.tolerations),
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": WORKER_UID,
                "runAsGroup": WORKER_UID,
                "fsGroup": WORKER_UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_worker_container(pool, worker, defaults)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                # A volume, not variables: a new API key is in force without a new pod.
                {"name": "carrier", "projected": {"sources": _login_of(carrier_secret(spec, defaults))}},
            ],
        },
    }


def _login_of(secret: str) -> list[dict[str, Any]]:
    """What calls are placed with, and nothing else: any Secret of the namespace may be named as a carrier's."""

    def entries(*keys: str, optional: bool) -> dict[str, Any]:
        return {"secret": {"name": secret, "optional": optional, "items": [{"key": key, "path": key} for key in keys]}}

    # Without an account no pod starts, and one that runs keeps what it has.
    return [entries("accountSid", optional=False), entries("authToken", "apiKeySid", "apiKeySecret", optional=True)]


def _worker_container(pool: str, worker: Worker, defaults: PoolDefaults) -> dict[str, Any]:
    def field(path: str) -> dict[str, Any]:
        return {"valueFrom": {"fieldRef": {"fieldPath": path}}}

    def limit(name: str, divisor: str) -> dict[str, Any]:
        # A processor without a limit is the node's: kubelet says so itself.
        return {"valueFrom": {"resourceFieldRef": {"resource": f"limits.{name}", "divisor": divisor}}}

    def probe(path: str, period_s: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": HEALTH_PORT},
            "periodSeconds": period_s,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    environment = {
        "POD_NAME": field("metadata.name"),
        "POD_NAMESPACE": field("metadata.namespace"),
        "POD_UID": field("metadata.uid"),
        "POD_IP": field("status.podIP"),
        "CALLFLEET_POOL": {"value": pool},
        "CALLFLEET_SLOTS": {"value": str(worker.slots_per_worker)},
        "CALLFLEET_CPU_MILLIS": limit("cpu", "1m"),
        "CALLFLEET_MEMORY_BYTES": limit("memory", "1"),
        "CALLFLEET_DRAIN_S": {"value": str(worker.drain_seconds)},
        "CALLFLEET_DEVICE": {"value": defaults.device},
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": {"value": f"0={GPU_MEMORY}"},
        "CALLFLEET_RUN_DIR": {"value": "/run/callfleet"},
        "CALLFLEET_CARRIER_DIR": {"value": CARRIER_DIR},
        "HOME": {"value": "/tmp"},  # noqa: S108  # the pod's own empty volume
    }
    resources = {
        name: {key: str(value) for key, value in amounts.model_dump(by_alias=True, exclude_none=True).items()}
        for name, amounts in (("requests", worker.resources.requests), ("limits", worker.resources.limits))
    }
    resources["limits"].setdefault("memory", DEFAULT_MEMORY)
    return {
        "name": "worker",
        "image": worker.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "env": [{"name": name, **value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": defaults.secret}}, {"secretRef": {"name": defaults.keys_secret}}],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
        "resources": resources,
        "startupProbe": probe("/health", 2, 60),
        "livenessProbe": probe("/health", 10, 6),
        "readinessProbe": probe("/readyz", 2, 3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # the pod's own empty volume
            {"name": "run", "mountPath": "/run/callfleet"},
            {"name": "carrier", "mountPath": CARRIER_DIR, "readOnly": True},
        ],
    }
