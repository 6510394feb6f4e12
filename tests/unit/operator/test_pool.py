"""What a worker pod looks like, what makes a pool another one, and how a pod is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from callfleet.checkout import sample
from callfleet_core.api.campaign import CampaignSpec, CarrierRef
from callfleet_core.api.worker import ResourceAmounts, Resources
from callfleet_operator.manifests import PoolDefaults, call_marks, disruption_budget, pool_name, serves, worker_pod
from callfleet_operator.objects import Pod, PodProblem

DEFAULTS = PoolDefaults(
    "callfleet/worker:1",
    "callfleet-worker",
    "callfleet-installation-carrier",
    "callfleet-keys",
    1,
    "auto",
    "IfNotPresent",
)


@pytest.fixture
def spec() -> CampaignSpec:
    documents = yaml.safe_load_all(sample("demo-campaign.yaml").read_text())
    return CampaignSpec.model_validate(next(item for item in documents if item["kind"] == "Campaign")["spec"])


def test_a_pool_is_its_workers_spec(spec: CampaignSpec) -> None:
    more = spec.model_copy(update={"worker": spec.worker.model_copy(update={"max_workers": 9, "min_workers": 2})})
    other = spec.model_copy(update={"worker": spec.worker.model_copy(update={"slots_per_worker": 2})})
    own_carrier = spec.model_copy(update={"carrier_ref": CarrierRef(name="twilio-main")})
    assert pool_name(spec, DEFAULTS) == pool_name(more, DEFAULTS)
    assert len({pool_name(item, DEFAULTS) for item in (spec, other, own_carrier)}) == 3
    assert pool_name(spec, replace(DEFAULTS, key_version=2)) != pool_name(spec, DEFAULTS)


def test_a_worker_reads_its_campaigns_carrier_and_no_other(spec: CampaignSpec) -> None:
    own = spec.model_copy(update={"carrier_ref": CarrierRef(name="twilio-main")})
    for given, secret in ((spec, "callfleet-installation-carrier"), (own, "twilio-main")):
        body = worker_pod("pool-1-0", "pool-1", "uid", given, DEFAULTS)
        (sources,) = (item["projected"]["sources"] for item in body["spec"]["volumes"] if "projected" in item)
        assert not any("secret" in item for item in body["spec"]["volumes"])
        assert {item["secret"]["name"] for item in sources} == {secret}
        read = [entry["key"] for item in sources for entry in item["secret"]["items"]]
        assert read == ["accountSid", "authToken", "apiKeySid", "apiKeySecret"]
        assert [item["secret"]["optional"] for item in sources] == [False, True]


def test_a_worker_pod_asks_for_a_gpu_and_runs_restricted(spec: CampaignSpec) -> None:
    body = worker_pod("pool-1-0", "pool-1", "uid", spec, DEFAULTS)
    container: dict[str, Any] = body["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in body["spec"]["tolerations"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    security = container["securityContext"]
    assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert body["spec"]["securityContext"]["runAsNonRoot"] is True
    assert body["spec"]["terminationGracePeriodSeconds"] >= spec.call.max_duration_seconds + 60
    assert container["resources"]["limits"]["memory"] == "4Gi"
    assert body["metadata"]["ownerReferences"][0]["kind"] == "ConfigMap"


def test_no_manifest_holds_a_person(spec: CampaignSpec) -> None:
    text = yaml.safe_dump(worker_pod("pool-1-0", "pool-1", "uid", spec, DEFAULTS))
    for contact in spec.contacts.inline or []:
        assert contact.phone not in text
        assert contact.name is None or contact.name not in text


def test_a_worker_without_a_memory_limit_gets_one(spec: CampaignSpec) -> None:
    resources = Resources(limits=ResourceAmounts.model_validate({"nvidia.com/gpu": 1}))
    plain = spec.model_copy(update={"worker": spec.worker.model_copy(update={"resources": resources})})
    container = worker_pod("pool-1-0", "pool-1", "uid", plain, DEFAULTS)["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "2Gi"}
    told = {item["name"]: item.get("valueFrom", {}).get("resourceFieldRef") for item in container["env"]}
    assert told["CALLFLEET_MEMORY_BYTES"] == {"resource": "limits.memory", "divisor": "1"}
    assert told["CALLFLEET_CPU_MILLIS"] == {"resource": "limits.cpu", "divisor": "1m"}
    assert Resources().limits.memory == "2Gi"


@pytest.mark.parametrize("drain_s", [300, 4020])
def test_a_pods_grace_covers_its_drain(spec: CampaignSpec, drain_s: int) -> None:
    drained = spec.model_copy(update={"worker": spec.worker.model_copy(update={"drain_seconds": drain_s})})
    pod = worker_pod("pool-1-0", "pool-1", "uid", drained, DEFAULTS)["spec"]
    environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert (environment["CALLFLEET_DRAIN_S"], pod["terminationGracePeriodSeconds"]) == (str(drain_s), drain_s + 60)
    assert pod["terminationGracePeriodSeconds"] >= spec.call.max_duration_seconds + 60


def test_a_pod_remembers_what_it_was_made_for(spec: CampaignSpec) -> None:
    body = worker_pod("pool-1-0", "pool-1", "uid", spec, DEFAULTS, ["spring", "autumn"])
    pod = read(body)
    assert (pod.campaigns, pod.slots, pod.serves) == (("autumn", "spring"), 1, serves(spec, DEFAULTS))
    assert not pod.in_call
    assert serves(spec, replace(DEFAULTS, key_version=2)) != pod.serves  # it could not read people under a new key
    assert serves(spec, replace(DEFAULTS, image="callfleet/worker:2")) == pod.serves


def test_a_worker_in_a_call_is_kept_from_evictions_and_autoscalers_and_an_idle_one_is_not() -> None:
    busy, idle = call_marks(7), call_marks(None)
    (wanted,) = disruption_budget()["spec"]["selector"]["matchExpressions"]
    assert busy["labels"][wanted["key"]] == "true"
    assert idle["labels"][wanted["key"]] is None
    assert [item["annotations"]["karpenter.sh/do-not-disrupt"] for item in (busy, idle)] == ["true", None]
    evictable = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert [item["annotations"][evictable] for item in (busy, idle)] == ["false", "true"]
    assert call_marks(8) != busy  # an earlier leader's view of the pod is outdated


def read(body: dict[str, Any], **status: Any) -> Pod:
    meta = {"namespace": "sales", "uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-11-22T09:00:00Z"}
    return Pod.of({"metadata": {**body["metadata"], **meta}, "status": status})


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


def unready(since: str, reason: str = "ContainersNotReady") -> dict[str, Any]:
    """A pod whose container began at 9:00:02 and that is not ready."""
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": "worker", "lastTransitionTime": since}
    running = {"state": {"running": {"startedAt": "2026-11-22T09:00:02Z"}}}
    return {"phase": "Running", "conditions": [ready], "containerStatuses": [running]}


CRASHED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"conditions": [UNSCHEDULABLE]}, PodProblem("Unschedulable", UNSCHEDULABLE["message"])),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
            PodProblem("ImagePullBackOff", "no such image"),
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": CRASHED}]},
            PodProblem("CrashLoopBackOff", "last end: OOMKilled, exit code 137"),
        ),
        (
            {"containerStatuses": [{"state": {"running": {}}, "lastState": CRASHED, "restartCount": 3}]},
            PodProblem("ContainerRestarted", "3 times; last end: OOMKilled, exit code 137"),
        ),
        ({"containerStatuses": [{"state": {"running": {}}, "lastState": CRASHED, "ready": True}]}, None),
        (unready("2026-11-22T09:00:00Z"), None),  # it starts
        (unready("2026-11-22T09:05:00Z"), PodProblem("ContainersNotReady", "worker")),
        (unready("2026-11-22T09:00:00Z", reason="NodeNotReady"), PodProblem("NodeNotReady", "worker")),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
    ],
)
def test_what_keeps_a_pod_from_serving_is_told_in_kubernetes_words(
    spec: CampaignSpec, status: dict[str, Any], problem: PodProblem | None
) -> None:
    assert read(worker_pod("pool-1-0", "pool-1", "uid", spec, DEFAULTS), **status).problem == problem
