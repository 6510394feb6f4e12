"""Values at, and just beyond, what a field's schema allows; and of every other type."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

UNICODE = ("é", "漢字", "🎉", "\u202eabc", "a\u0301", "\ufeff")
CONTROL = ("\u0000", "a\u0000b", "\u0007", "\n", "a\nb", "\u001b[31m", "\u007f")
NUMERIC = ("0", "00", "-1", "+1", "1.", ".5", "1e3", "0x10", "٣", "999999999.999999", "1000000000", "0.0000001", "1,5")
NAMES = ("a", "A", "a.b", "a..b", "-a", "a-", "a/b", "a b", "../etc", "UTC ", "Etc/UTC", "America/", "/", "1", "²",
         "Local", "+02:00", "Mars/Olympus")  # fmt: skip
MOMENTS = (
    "2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00", "10000-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-12-31T23:59:60Z", "2026-01-01T24:00:00Z", "2026-01-01t00:00:00z",
    "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00+99:00",
    "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00+15:59", "2026-01-01T00:00:00+12:60",
    "1767225600", "now",
    "2026-01-01 00:00:00Z", "Thu, 01 Jan 2026 00:00:00 GMT", "2026-1-1T0:0:0Z", "294277-01-01T00:00:00Z",
)  # fmt: skip
QUANTITIES = (
    "0", "0m", "1m", "100m", "1.5", "1.5Gi", "3Gi", "2048Mi", "9999Ti", "999999999999999", "1e3", "-1", "1 Gi", "1g",
)  # fmt: skip
MOST_UNFILLED = 400


def edges(schema: Schema, value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """What a field may be changed to, and in a word what that is; `value` is one that is right."""
    yield "null", None
    yield from _other_types(schema.get("type"))
    match schema.get("type"):
        case "string":
            yield from _strings(schema, value)
        case "integer":
            yield from _integers(schema)
        case "boolean":
            yield "the other", not value
        case "array":
            yield from _lists(schema, value)
        case "object":
            yield "empty", {}
            yield "with an unknown field", {**value, "unheardOf": 1}
    if key:  # what tells a list's items apart
        yield "another key", distinct(value, 7)


def _other_types(own: Any) -> Iterator[tuple[str, Any]]:
    samples: dict[str, Any] = {"string": "7", "integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}}
    for kind, sample in samples.items():
        if kind != own:
            yield f"a {kind}", sample


def _strings(schema: Schema, value: str) -> Iterator[tuple[str, str]]:
    if "enum" in schema:
        yield from (("another of the list", other) for other in schema["enum"] if other != value)
        yield "none of the list", "Unheard"
        yield "in another case", value.swapcase()
        return
    yield "empty", ""
    yield "a blank", " "
    yield "with a blank", f" {value} "
    if _is_moment(schema):
        yield from (("a moment", moment) for moment in MOMENTS)
    if longest := schema.get("maxLength"):
        yield "as long as may be", _filled(value, longest)
        yield "longer than may be", _filled(value, longest + 1)
        yield "wide letters, as long as may be", "漢" * longest
    yield from (("unicode", text) for text in UNICODE)
    yield from (("a control character", text) for text in CONTROL)
    if "pattern" in schema:
        yield from (("a number", text) for text in NUMERIC)
        yield from (("a name", text) for text in NAMES)
        yield from (("a quantity", text) for text in QUANTITIES)


def _is_moment(schema: Schema) -> bool:
    """By its rules: a `format: date-time` takes too much."""
    return any("timestamp(self)" in item["rule"] for item in schema.get("x-kubernetes-validations", ()))


def _filled(value: str, length: int) -> str:
    """A right value made longer, by what it ends with."""
    return (value + value[-1] * length)[:length] if value else "a" * length


def _integers(schema: Schema) -> Iterator[tuple[str, Any]]:
    for name in ("minimum", "maximum"):
        if name in schema:
            bound = schema[name]
            yield from ((f"at its {name}", bound), (f"below its {name}", bound - 1), (f"above its {name}", bound + 1))
    yield from (("a whole number", value) for value in (0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)))
    yield from (("no integer", value) for value in (1.0, 1.5, 2**63, 1e300))


def _lists(schema: Schema, value: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "empty", []
    if not value:
        return
    yield "the same twice", [value[0], value[0]]
    yield "with null in it", [*value, None]
    most = schema.get("maxItems", MOST_UNFILLED)
    for name, count in (("full", most), ("one too many", most + 1)):
        yield name, [distinct(value[0], place) for place in range(count)]


def distinct(item: Any, place: int) -> Any:
    """The item, unlike those at other places, in what keys of lists are made of."""
    if isinstance(item, str):
        return f"{item[:9]}{place:03d}" if item.startswith("+") else f"{item[:50]}{place}"
    if not isinstance(item, dict):
        return item
    made = copy.deepcopy(item)
    for key in ("phone", "name", "key"):
        if key in made:
            made[key] = distinct(made[key], place)
            return made
    return made
