"""Whether the watches still bring what changes: a dead one tells nothing, not even that it is dead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# An audit has listed a change, and the kind's watch has brought nothing at all for so long since.
SILENT_S = 60.0


class Watches:
    """What each kind's watch has brought, beside what the audits have listed. Versions grow within one server."""

    def __init__(self) -> None:
        self._brought: dict[str, int] = {}
        self._owed: dict[str, tuple[int, float]] = {}

    def saw(self, kind: str, version: int) -> None:
        """The watch has brought something: it lives, if perhaps it is behind."""
        self._brought[kind] = max(version, self._brought.get(kind, 0))
        self._owed.pop(kind, None)

    def forget(self, kind: str) -> None:
        """The server was restored from a backup: its versions begin again, below what was brought."""
        self._brought.pop(kind, None)
        self._owed.pop(kind, None)

    def listed(self, kind: str, bodies: Iterable[Mapping[str, Any]], now_s: float) -> None:
        """An audit has listed a kind, at `now_s` of a monotonic clock."""
        newest = max((int(body["metadata"]["resourceVersion"]) for body in bodies), default=0)
        if newest > self._brought.get(kind, 0):
            self._owed.setdefault(kind, (newest, now_s))

    def dead(self, now_s: float) -> list[str]:
        """The kinds whose watches are dead."""
        return [kind for kind, (_, since_s) in self._owed.items() if now_s - since_s > SILENT_S]
