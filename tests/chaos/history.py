"""What a client asked and what it was told, in an append-only file that outlives the client."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["ok", "refused", "unknown"]
# No answer yet is no answer for ever: later than every moment.
NEVER_NS = 2**63


@dataclass(slots=True)
class Operation:
    """One invocation and its answer. Times are CLOCK_MONOTONIC, which all processes of a machine share, in ns.

    ok: `value` was answered. refused: nothing happened, `value` is the error. unknown: either, but wholly.
    """

    key: str
    name: str
    args: dict[str, Any]
    invoked_ns: int
    answered_ns: int = NEVER_NS
    outcome: Outcome = "unknown"
    value: Any = None

    def told(self, *values: Any) -> bool:
        """Whether one of these was answered."""
        return self.outcome == "ok" and self.value in values

    def perhaps(self, *values: Any) -> bool:
        """Whether one of these was answered, or nothing."""
        return self.outcome == "unknown" or self.told(*values)


class HistoryWriter:
    """Writes one line an event, each by one write(2): what is written stays, even under kill -9."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._prefix = prefix
        self._count = 0

    def next_key(self) -> str:
        """A name that no other operation has."""
        self._count += 1
        return f"{self._prefix}.{self._count}"

    def invoked(self, key: str, name: str, args: dict[str, Any]) -> None:
        """Before anything is sent."""
        self._write({"k": key, "t": time.monotonic_ns(), "op": name, "args": args})

    def answered(self, key: str, outcome: Outcome, value: Any) -> None:
        """After everything was received."""
        self._write({"k": key, "t": time.monotonic_ns(), "is": outcome, "value": value})

    def _write(self, event: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(event).encode() + b"\n")


def read_history(folder: Path) -> list[Operation]:
    """All clients' operations, in the order in which they were asked."""
    operations: dict[str, Operation] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for event in _events(path):
            if "op" in event:
                operations[event["k"]] = Operation(event["k"], event["op"], event["args"], event["t"])
            else:
                operation = operations[event["k"]]
                operation.answered_ns, operation.outcome = event["t"], event["is"]
                operation.value = event["value"]
    return sorted(operations.values(), key=lambda operation: operation.invoked_ns)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # a killed client's last line may be half a line
            yield json.loads(line)
