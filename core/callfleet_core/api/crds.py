"""Makes the CRDs from the pydantic models: `python -m callfleet_core.api.crds FOLDER… [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from callfleet_core.api import GROUP, VERSION, budget, callsession, campaign
from callfleet_core.api.common import rules
from callfleet_core.script import ApiModel

# JSON Schema that a structural schema does not know.
_DROPPED = frozenset({"title", "discriminator", "$defs", "additionalProperties"})
_FORMATS = {"date-time", "int32", "int64"}


@dataclass(frozen=True)
class Column:
    """A printer column; priority 1 shows with -o wide only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True)
class Kind:
    """What a CRD is made from."""

    kind: str
    plural: str
    short: tuple[str, ...]
    spec: type[ApiModel]
    status: type[ApiModel]
    with_rules: Callable[[dict[str, Any]], dict[str, Any]]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    root_rules: tuple[dict[str, Any], ...] = ()
    status_default: dict[str, Any] | None = None


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
_READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')

KINDS = (
    Kind(
        "Campaign",
        "campaigns",
        ("camp",),
        campaign.CampaignSpec,
        campaign.CampaignStatus,
        lambda spec: {**spec, **campaign.SPEC_RULES},
        (
            _READY,
            Column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            Column("Done/Total", ".status.progress"),
            Column("Live", ".status.live", "integer"),
            Column("Waiting", ".status.waitingCount", "integer"),
            Column("Held", ".status.money.held"),
            Column("Spent", ".status.money.spent"),
            _AGE,
            Column("Run", ".status.runID", priority=1),
            Column("Model", ".spec.agent.llm.model", priority=1),
        ),
        root_rules=tuple(campaign.METADATA_RULES),
    ),
    Kind(
        "CallSession",
        "callsessions",
        ("cs", "call"),  # cs alone also means componentstatuses
        callsession.CallSessionSpec,
        callsession.CallSessionStatus,
        callsession.frozen,
        (
            Column("State", ".status.state"),
            Column("Reason", ".status.reason"),
            Column("Missing", ".status.shortfall"),
            # Not a date: kubectl shows those as ages, and a time to come as <invalid>.
            Column("Retry", ".status.retryAt"),
            Column("Cost", ".status.result.cost"),
            _AGE,
            Column("Worker", ".status.worker", priority=1),
            Column("Attempt", ".status.attempt.number", "integer", priority=1),
            Column("Disposition", ".status.result.disposition", priority=1),
        ),
        selectable=(".spec.campaign", ".status.state", ".status.worker"),
        status_default=callsession.STATUS_DEFAULT,
    ),
    Kind(
        "Budget",
        "budgets",
        ("bud",),
        budget.BudgetSpec,
        budget.BudgetStatus,
        lambda spec: {**spec, **budget.SPEC_RULES},
        (
            _READY,
            Column("Currency", ".spec.currency"),
            Column("Daily-Left", '.status.windows[?(@.kind=="Daily")].left'),
            Column("Monthly-Left", '.status.windows[?(@.kind=="Monthly")].left'),
            Column("Total-Left", '.status.windows[?(@.kind=="Total")].left'),
            Column("Held", ".status.windows[0].held"),
            Column("Exhausted", '.status.conditions[?(@.type=="Exhausted")].status'),
            _AGE,
        ),
    ),
)


def _structural(node: Any, definitions: dict[str, Any], inside_properties: bool = False) -> Any:
    """A JSON Schema of pydantic's as Kubernetes wants it: references inlined, nulls as nullable."""
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if inside_properties:
        return {key: _structural(value, definitions) for key, value in node.items()}
    if "$ref" in node:
        target = dict(definitions[node["$ref"].rsplit("/", 1)[-1]])
        own_words = {key: value for key, value in node.items() if key != "$ref"}
        return _structural({**target, **own_words}, definitions)
    if "anyOf" in node:
        variants = [variant for variant in node["anyOf"] if variant.get("type") != "null"]
        (variant,) = variants  # only optional fields use anyOf here
        rest = {key: value for key, value in node.items() if key not in {"anyOf", "default"}}
        return {**_structural({**variant, **rest}, definitions), "nullable": True}
    result = {
        key: _structural(value, definitions, inside_properties=key == "properties")
        for key, value in node.items()
        if key not in _DROPPED and not (key == "format" and value not in _FORMATS)
    }
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("type") == "integer":
        result.setdefault("format", "int64")
    if "default" in result:
        result["default"] = _without_nulls(result["default"])
        if result["default"] is None:
            del result["default"]
    return result


def _without_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """An item's schema. Lists are compared whole: what the API server added to an item would be for GitOps tools, for
    ever, another list than the manifest's. The models fill in what is left out.
    """
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {name: _without_defaults(below) for name, below in result["properties"].items()}
    if "items" in result:
        result["items"] = _without_defaults(result["items"])
    return result


def _without_nulls(value: Any) -> Any:
    """A default as a manifest would write it; what is null in it is left to the defaults inside."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def schema(model: type[ApiModel]) -> dict[str, Any]:
    """A model's structural schema."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    result: dict[str, Any] = _structural(raw, raw.get("$defs", {}))
    return result


def crd(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    status = schema(kind.status)
    if kind.status_default is not None:
        status["default"] = kind.status_default
    root: dict[str, Any] = {
        "type": "object",
        "description": sys.modules[kind.spec.__module__].__doc__,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": kind.with_rules(schema(kind.spec)),
            "status": status,
        },
    }
    if kind.root_rules:
        root |= rules(*kind.root_rules)
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    names = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
        "shortNames": list(kind.short),
        "categories": ["callfleet"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Money and records outlive a removed chart: the CRDs, and the objects with them, stay.
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return {**entry, "priority": column.priority} if column.priority else entry


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the parent's signature
        return True


def manifests() -> dict[str, str]:
    """Every CRD as YAML, by file name."""
    head = "# Made from core/callfleet_core/api by `make crds`; do not edit.\n"
    return {
        f"{kind.plural}.yaml": head + yaml.dump(crd(kind), Dumper=_NoAliases, sort_keys=False, width=110)
        for kind in KINDS
    }


def main(arguments: list[str]) -> int:
    """Writes the CRDs into each folder, or with --check says which files differ; returns the exit status."""
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    stale = []
    for folder in folders:
        for name, text in manifests().items():
            path = folder / name
            if "--check" not in arguments:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            elif not path.is_file() or path.read_text() != text:
                stale.append(str(path))
    if stale:
        sys.stderr.write(f"not what the models say: {', '.join(stale)}; run `make crds`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
