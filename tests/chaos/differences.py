"""Where two values differ, in a few words each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SHOWN = 160


def differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """Each place at which they are not the same: what was found, and what was wanted."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys(), key=str):
            if key not in found or key not in wanted:
                what = "is missing" if key in wanted else f"is too much: {str(found[key])[:_SHOWN]}"
                yield f"{path}.{key} {what}"
            else:
                yield from differences(found[key], wanted[key], f"{path}.{key}")
    elif isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            yield f"{path}: {len(found)} items instead of {len(wanted)}"
        for index, (one, other) in enumerate(zip(found, wanted, strict=False)):
            yield from differences(one, other, f"{path}[{index}]")
    elif found != wanted:
        yield f"{path}: {str(found)[:_SHOWN]!r} instead of {str(wanted)[:_SHOWN]!r}"
