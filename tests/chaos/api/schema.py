"""What the API server makes of a custom object before it stores it: pruned, defaulted, checked against its schema.

Rules in CEL are not evaluated: no workflow breaks one. test_contract.py holds the rest to the real server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from tests.chaos.api.copies import copied

Schema = dict[str, Any]
_CRDS = Path(__file__).parents[3] / "crds"
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


@cache
def schemas() -> dict[str, Schema]:
    """Each custom kind's plural and its structural schema, as generated."""
    found = {}
    for path in sorted(_CRDS.glob("*.yaml")):
        crd = yaml.safe_load(path.read_text())
        found[crd["spec"]["names"]["plural"]] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def admitted(plural: str, body: dict[str, Any]) -> dict[str, Any]:
    """The object as it would be stored: without what the schema does not know, with its defaults."""
    schema = schemas()[plural]
    known = {name: copied(body[name]) for name in ("apiVersion", "kind", "metadata") if name in body}
    parts = {name: schema["properties"][name] for name in ("spec", "status")}
    return known | _filled_object(parts, {name: copied(body[name]) for name in parts if name in body})


def problems(plural: str, body: dict[str, Any]) -> list[str]:
    """What the schema has against an object; empty: nothing."""
    schema = schemas()[plural]
    parts = {name: part for name, part in schema["properties"].items() if name in ("spec", "status")}
    missing = [f"{name}: Required value" for name in schema.get("required", []) if name not in body]
    return missing + [line for name, part in parts.items() if name in body for line in _check(part, body[name], name)]


def _filled(schema: Schema, value: Any) -> Any:
    if isinstance(value, dict):
        if "properties" not in schema:
            more = schema.get("additionalProperties")
            return {key: _filled(more, item) for key, item in value.items()} if isinstance(more, dict) else value
        return _filled_object(schema["properties"], value)
    if isinstance(value, list):
        return [_filled(schema.get("items", {}), item) for item in value]
    return value


def _filled_object(properties: dict[str, Schema], value: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for name, schema in properties.items():
        item = value.get(name)
        if item is None and name in value and schema.get("nullable"):
            done[name] = None
            continue
        if item is None and "default" in schema:
            item = copied(schema["default"])
        if item is not None:
            done[name] = _filled(schema, item)
    return done


def _check(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if value is None and schema.get("nullable"):
        return
    kinds = _TYPES.get(schema.get("type", ""), ())
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        yield f"{path}: Invalid value: must be of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value"
    if isinstance(value, str):
        yield from _check_text(schema, value, path)
    elif isinstance(value, dict):
        yield from (f"{path}.{name}: Required value" for name in schema.get("required", []) if name not in value)
        for name, part in schema.get("properties", {}).items():
            if name in value:
                yield from _check(part, value[name], f"{path}.{name}")
    elif isinstance(value, list):
        yield from _check_size(schema, len(value), "Items", path)
        for index, item in enumerate(value):
            yield from _check(schema.get("items", {}), item, f"{path}[{index}]")
    elif value < schema.get("minimum", value) or value > schema.get("maximum", value):
        yield f"{path}: Invalid value: out of bounds"


def _check_text(schema: Schema, value: str, path: str) -> Iterator[str]:
    yield from _check_size(schema, len(value), "Length", path)
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: Invalid value: does not match"


def _check_size(schema: Schema, size: int, what: str, path: str) -> Iterator[str]:
    if size > schema.get(f"max{what}", size):
        yield f"{path}: Too long"
    if size < schema.get(f"min{what}", 0):
        yield f"{path}: too short"
