"""Pools: made at once, removed late, never under a live call; and what a worker pod looks like."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from callfleet.checkout import sample
from callfleet_core.api.campaign import CampaignSpec, CarrierRef
from callfleet_operator.manifests import PoolDefaults, pool_name, worker_pod
from callfleet_operator.objects import Meta, Pod
from callfleet_operator.plan.pool import PoolView, plan_pool

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
DEFAULTS = PoolDefaults(
    "callfleet/worker:1",
    "callfleet-worker",
    "callfleet-installation-carrier",
    "callfleet-keys",
    1,
    "auto",
    "IfNotPresent",
)


def pod(index: int, *, ready: bool = True, finished: bool = False) -> Pod:
    meta = Meta("sales", f"pool-1-{index}", f"uid-{index}", 1, "1", NOW, deleted=False, annotations={})
    return Pod(meta, "pool-1", ready, finished, None)


def view(
    *pods: Pod, wanted: int, live: dict[str, int] | None = None, idle: dict[str, datetime] | None = None
) -> PoolView:
    return PoolView(pods, wanted, live or {}, idle or {})


def test_demand_makes_pods() -> None:
    assert plan_pool(view(wanted=2), NOW, 60).create == 2


def test_an_idle_pod_goes_only_after_its_cool_down() -> None:
    first = plan_pool(view(pod(0), wanted=0), NOW, 60)
    assert (first.delete, [item.meta.uid for item in first.idle]) == ((), ["uid-0"])
    later = plan_pool(view(pod(0), wanted=0, idle={"uid-0": NOW - timedelta(seconds=60)}), NOW, 60)
    assert [item.meta.uid for item in later.delete] == ["uid-0"]


def test_a_pod_with_a_live_call_never_goes() -> None:
    plan = plan_pool(view(pod(0), wanted=0, live={"uid-0": 1}, idle={"uid-0": NOW - timedelta(days=1)}), NOW, 60)
    assert plan.delete == ()


def test_a_finished_pod_is_replaced() -> None:
    plan = plan_pool(view(pod(0, finished=True), wanted=1), NOW, 60)
    assert (plan.create, [item.meta.uid for item in plan.delete]) == (1, ["uid-0"])


@pytest.fixture
def spec() -> CampaignSpec:
    documents = yaml.safe_load_all(sample("demo-campaign.yaml").read_text())
    return CampaignSpec.model_validate(next(item for item in documents if item["kind"] == "Campaign")["spec"])


def test_a_pool_is_its_workers_spec(spec: CampaignSpec) -> None:
    more = spec.model_copy(update={"worker": spec.worker.model_copy(update={"max_workers": 9})})
    other = spec.model_copy(update={"worker": spec.worker.model_copy(update={"slots_per_worker": 2})})
    own_carrier = spec.model_copy(update={"carrier_ref": CarrierRef(name="twilio-main")})
    assert pool_name(spec, DEFAULTS) == pool_name(more, DEFAULTS)
    assert len({pool_name(item, DEFAULTS) for item in (spec, other, own_carrier)}) == 3
    assert pool_name(spec, replace(DEFAULTS, key_version=2)) != pool_name(spec, DEFAULTS)


def test_a_worker_reads_its_campaigns_carrier_and_no_other(spec: CampaignSpec) -> None:
    own = spec.model_copy(update={"carrier_ref": CarrierRef(name="twilio-main")})
    for given, secret in ((spec, "callfleet-installation-carrier"), (own, "twilio-main")):
        body = worker_pod("pool-1-0", "pool-1", "uid", given, DEFAULTS)
        mounted = [item["secret"]["secretName"] for item in body["spec"]["volumes"] if "secret" in item]
        assert mounted == [secret]


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
    assert body["metadata"]["ownerReferences"][0]["kind"] == "ConfigMap"


def test_no_manifest_holds_a_person(spec: CampaignSpec) -> None:
    text = yaml.safe_dump(worker_pod("pool-1-0", "pool-1", "uid", spec, DEFAULTS))
    for contact in spec.contacts.inline or []:
        assert contact.phone not in text
        assert contact.name is None or contact.name not in text
