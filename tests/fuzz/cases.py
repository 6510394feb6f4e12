"""Specs made from the CRDs' own schemas: every field changed in every way, alone and by twos, in an order by a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from tests.fuzz.values import Schema, edges
from tests.integration.apiserver import CRDS

Path = tuple[str | int, ...]
REMOVED = object()
PERSON, PERSONA, PHONE = "Ottoline Quuxworth", "You are Zebulon the agent.", "+15550100142"

_CONSENT = {"kind": "written", "source": "form-7", "time": "2026-01-01T10:00:00Z"}
_ALWAYS = {"days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], "from": "00:00", "to": "24:00"}
BASES: dict[str, dict[str, Any]] = {
    "Campaign": {
        "runID": "1", "currency": "USD", "timeZone": "Europe/Berlin", "suspend": False, "deletionPolicy": "Drain",
        "contacts": {"inline": [{"phone": PHONE, "name": PERSON, "timeZone": "Europe/Berlin", "consent": _CONSENT}]},
        "schedule": {"zone": "Campaign", "windows": [_ALWAYS], "notAfter": "2099-01-01T00:00:00Z"},
        "ttlSecondsAfterFinished": 3600, "priority": 1, "weight": 10, "lookAhead": 10,
        "limits": {"perCall": "1.00", "daily": "5.00", "monthly": "50.00", "total": "500.00"},
        "budgetRefs": [{"name": "money"}],
        "call": {
            "from": ["+15550100199"], "maxDurationSeconds": 120, "ringTimeoutSeconds": 30, "maxQueueSeconds": 30,
        },
        "pacing": {"callsPerSecond": "2.5", "maxConcurrent": 5},
        "attempts": {"max": 2, "retryAfterMinutes": {"busy": 10, "noAnswer": 60}},
        "agent": {
            "persona": PERSONA, "llm": {"model": "smollm2"}, "opening": "Hello.", "closing": "Goodbye.",
            "questions": [
                {"name": "interested", "type": "YesNo", "ask": ["Are you interested?"], "reask": ["Well?"],
                 "required": True, "lead": "interest", "qualify": {"weight": 2, "is": ["yes"]}},
                {"name": "kind", "type": "Choice", "ask": ["Which?"], "choices": ["red", "green"],
                 "when": {"question": "interested", "is": ["yes"]}},
                {"name": "price", "type": "Money", "ask": ["How much?"], "lead": "budget",
                 "qualify": {"weight": 1, "min": "10", "max": "99.5"}},
                {"name": "soon", "type": "DateRange", "ask": ["When?"], "qualify": {"withinDays": 90}},
            ],
        },
        "worker": {
            "image": "worker:1", "slotsPerWorker": 2, "minWorkers": 1, "maxWorkers": 2, "drainSeconds": 600,
            "resources": {
                "requests": {"cpu": "100m", "memory": "1Gi"},
                "limits": {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": 1},
            },
            "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
        },
    },
    "Budget": {
        "currency": "USD", "timeZone": "Europe/Berlin", "scope": "Referenced", "suspend": False,
        "limits": {"daily": "5.00", "monthly": "50.00", "total": "500.00"},
    },
    "CallSession": {
        "campaign": "handmade", "campaignGeneration": 1, "runID": "1",
        "contactID": "0192f0c4-0000-7000-8000-000000000002", "priority": 0, "currency": "USD", "maxCost": "0.50",
        "maxDurationSeconds": 120, "cancel": False,
    },
}  # fmt: skip
# A Campaign's other sources of contacts, which its base cannot have beside the first, and its own carrier.
OTHERS: dict[str, list[dict[str, Any]]] = {
    "Campaign": [
        {"contacts": {"configMapRef": {"name": "people", "key": "contacts.csv"}}},
        {"contacts": {"secretRef": {"name": "people", "key": "contacts.csv"}}},
        {"contacts": {"listRef": {"name": "spring"}}},
        {"carrierRef": {"name": "our-carrier"}},
    ]
}
# What people write into the metadata and the operator reads.
METADATA: dict[str, list[dict[str, Any]]] = {
    "Campaign": [{"name": "n" * 40}, {"name": "n" * 41}, {"name": "with.dots"}, {"finalizers": ["example.com/own"]}],
    "Budget": [{"name": "n" * 63}, {"name": "n" * 64}, {"name": "with.dots"}, {"finalizers": ["example.com/own"]}],
    "CallSession": [
        {"annotations": {"callfleet.dev/position": text}} for text in ("²", "-1", "", "9" * 5000, "٣", "1e9")
    ],
}


@dataclass(frozen=True)
class Case:
    """A spec that somebody might apply, and which fields of it are unlike the base."""

    kind: str
    what: str
    fields: tuple[str, ...]
    spec: Any
    metadata: dict[str, Any]


def load_schema(kind: str) -> Schema:
    """The spec's schema of a kind's CRD."""
    crd = yaml.safe_load((CRDS / f"{kind.lower()}s.yaml").read_text())
    schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def walk(schema: Schema, value: Any, path: Path = ()) -> Iterator[tuple[Path, str, Any]]:
    """Every change of every field below; REMOVED takes the field away."""
    if path:
        yield path, "removed", REMOVED
    yield from ((path, what, changed) for what, changed in edges(schema, value))
    if isinstance(value, dict):
        for name, below in schema["properties"].items():
            if name in value:
                yield from walk(below, value[name], (*path, name))
            else:
                yield from (((*path, name), f"added: {what}", one) for what, one in edges(below, _sample(below)))
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from walk(schema["items"], item, (*path, place))


def _sample(schema: Schema) -> Any:
    """A value for a field that the base does not have."""
    match schema.get("type"):
        case "object":
            return {name: _sample(below) for name, below in schema.get("properties", {}).items()}
        case "array":
            return [_sample(schema["items"])]
        case "integer":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return schema["enum"][0] if "enum" in schema else "1"


def changed(spec: dict[str, Any], path: Path, value: Any) -> Any:
    """A copy with one field otherwise."""
    if not path:
        return value
    made = copy.deepcopy(spec)
    at: Any = made
    for step in path[:-1]:
        at = at[step]
    if value is not REMOVED:
        at[path[-1]] = value
    elif isinstance(at, list):
        at.pop()
    else:
        at.pop(path[-1], None)
    return made


def singles(kind: str) -> list[Case]:
    """Each change alone, and what is otherwise in the metadata."""
    schema, made = load_schema(kind), []
    for other in [{}, *OTHERS.get(kind, [])]:
        base = {**BASES[kind], **other}
        for path, what, value in walk(schema, base):
            if not other or (path and path[0] in other):
                made.append(Case(kind, what, (dotted(path),), changed(base, path, value), {}))
    return made + [Case(kind, "metadata", (next(iter(meta)),), BASES[kind], meta) for meta in METADATA[kind]]


def doubles(kind: str, rng: random.Random) -> Iterator[Case]:
    """Two changes at once, for ever: what one field's schema cannot say."""
    changes = list(walk(load_schema(kind), BASES[kind]))
    while True:
        (first, one, value), (second, two, other) = rng.sample(changes, 2)
        if first and second and first != second[: len(first)] and second != first[: len(second)]:
            try:
                spec = changed(changed(BASES[kind], first, value), second, other)
            except (KeyError, IndexError):
                continue  # the first took away where the second is
            yield Case(kind, f"{one}; {two}", (dotted(first), dotted(second)), spec, {})


def generate(count: int, seed: int) -> list[Case]:
    """So many cases: all single changes in an order by the seed, then twos; every kind from the first."""
    rng = random.Random(seed)  # noqa: S311 - cases to try, no secrets
    every = [case for kind in BASES for case in singles(kind)]
    rng.shuffle(every)
    chosen, pairs = every[: count * 3 // 4], doubles("Campaign", rng)
    chosen += [next(pairs) for _ in range(count - len(chosen))]
    rng.shuffle(chosen)
    return chosen


def dotted(path: Path) -> str:
    """A field as the API server names it."""
    text = "spec"
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text
