"""The CRDs are what the models say, and structural."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from callfleet_core.api.campaign import CampaignSpec
from callfleet_core.api.crds import KINDS, crd, main, manifests

TOP = Path(__file__).resolve().parents[3]


def test_what_is_committed_is_what_the_models_say() -> None:
    assert main([str(TOP / "crds"), str(TOP / "charts/callfleet/templates/crds"), "--check"]) == 0


def test_drift_is_seen(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    (tmp_path / "budgets.yaml").write_text("kind: Other\n")
    assert main([str(tmp_path), "--check"]) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_list_and_string_of_a_spec_is_bounded(kind: Any) -> None:
    unbounded = []

    def walk(node: dict[str, Any], path: str) -> None:
        if node.get("type") == "array" and "maxItems" not in node:
            unbounded.append(path)
        if node.get("type") == "string" and not {"maxLength", "enum", "format"} & node.keys():
            unbounded.append(path)
        for name, child in node.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        if "items" in node:
            walk(node["items"], f"{path}[]")

    walk(crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec")
    assert unbounded == []


@pytest.mark.parametrize("text", manifests().values(), ids=manifests().keys())
def test_no_schema_holds_what_kubernetes_refuses(text: str) -> None:
    for word in ("$ref", "anyOf", "$defs", "const:"):
        assert word not in text


def test_the_sample_fits_the_model_and_its_script_round_trips() -> None:
    documents = list(yaml.safe_load_all((TOP / "docs/samples/demo-campaign.yaml").read_text()))
    spec = CampaignSpec.model_validate(next(item for item in documents if item["kind"] == "Campaign")["spec"])
    script = spec.script()
    again = type(script).model_validate(script.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert again == script
    assert len(spec.contacts.inline or []) == 12
