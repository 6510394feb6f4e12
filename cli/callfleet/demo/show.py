"""The demo's words for people, on standard error: what changes as it runs, and the summary at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


class Narrator:
    """Prints a line for each session that changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def tell(self, sessions: Sequence[Mapping[str, Any]]) -> None:
        """Says what changed since the last look."""
        for item in sorted(sessions, key=_position):
            name, line = item["metadata"]["name"], _line(item)
            if self._seen.get(name) != line:
                self._seen[name] = line
                self._console.print(f"  {name}  {line}", highlight=False, markup=False)


def _position(item: Mapping[str, Any]) -> int:
    return int(item["metadata"].get("annotations", {}).get("callfleet.dev/position", "0"))


def _line(item: Mapping[str, Any]) -> str:
    status = item.get("status", {})
    state, reason = status.get("state", "Pending"), status.get("reason")
    result = status.get("result") or {}
    parts = [state]
    if reason:
        parts.append(f"({reason}{', ' + status['shortfall'] + ' missing' if status.get('shortfall') else ''})")
    if state == "Admitted":
        parts.append(f"{status['attempt']['held']} held, on {status['worker']}")
    if result:
        parts.append(
            f"{result.get('disposition')}, {result.get('durationSeconds') or 0} s, cost {result.get('cost', '-')}"
        )
    return " ".join(parts)


def print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """The summary as a table: who was called, what was learned, what it cost, who waits."""
    table = Table(title="Calls")
    for column in ("contact", "state", "disposition", "seconds", "cost", "turns", "decided by", "learned"):
        table.add_column(column)
    for call in summary["calls"]:
        learned = (call["lead"] or {}).get("fields") or {}
        decided = " ".join(f"{kind} {count}" for kind, count in call["decided_by"].items() if count)
        table.add_row(
            call["contact"],
            call["state"] or "",
            call["disposition"] or "",
            str(call["duration_s"] or 0),
            call["cost"] or "-",
            str(call["turns"]),
            decided,
            ", ".join(f"{name}: {value}" for name, value in learned.items()),
        )
    console.print(table)
    budget, sessions = summary["budget"], summary["sessions"]
    console.print(
        f"Budget {budget['limit']}: spent {budget['spent']}, held {budget['held']}, "
        f"{'OVERSPENT' if summary['overspent'] else 'never overspent'}. "
        f"The carrier billed {summary['carrier_billed']}, the ledger has {budget['spent_carrier']} for it.",
        highlight=False,
    )
    console.print(
        f"{sessions['completed']} sessions completed, {sessions['waiting_budget']} wait for money. "
        f"First dial after {summary['first_dial_s']} s.",
        highlight=False,
    )
