"""The demo's summary for people: who was called and what was learned, what it cost, who waits, whether the books agree.

Pure: from the summary (`summary.py`, also what `--json` prints) and the last scene to something rich can print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from callfleet.demo.scene import FINAL_STATES, Scene
from callfleet.demo.view import budget_line
from callfleet.demo.words import disposition_words, learned_words, session_words
from callfleet.parts.progress import duration_text

GOOD, BAD = "green", "bold red"


def report(summary: Mapping[str, Any], scene: Scene, types: Mapping[str, str]) -> RenderableType:
    """Calls, waiting sessions, money and the checks; `types`: each question's answer type."""
    currency = scene.budgets[0].currency if scene.budgets else "USD"
    parts: list[RenderableType] = [Text(), _calls(summary, types, currency)]
    waiting = waiting_lines(scene)
    if waiting:
        parts += [Text("\nNot called yet", style="bold"), *waiting]
    parts += [Text("\nMoney", style="bold"), *(budget_line(item) for item in scene.budgets)]
    parts += [*check_lines(summary), Text(), _figures(summary)]
    return Group(*parts)


def _calls(summary: Mapping[str, Any], types: Mapping[str, str], currency: str) -> Table:
    calls, total = summary["calls"], summary["sessions"]["total"]
    title = f"{len(calls)} of {total} people were called"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("who", no_wrap=True, style="bold")
    table.add_column("outcome")
    table.add_column("score", justify="right")
    table.add_column("what was learned", ratio=1)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for call in calls:
        lead = call["lead"] or {}
        learned = learned_words(lead.get("fields") or {}, types, currency)
        table.add_row(
            call["contact"],
            Text(disposition_words(call["disposition"]), style=GOOD if call["disposition"] == "qualified" else ""),
            lead.get("score", "-"),
            ", ".join(learned) or Text("nothing", style="dim"),
            duration_text(call["duration_s"] or 0),
            call["cost"] or "not settled",
        )
    return table


def waiting_lines(scene: Scene) -> list[Text]:
    """Who was not called and why, those with the same reason together, the money missing included."""
    groups: dict[str, list[str]] = {}
    for line in scene.sessions:
        if line.state not in FINAL_STATES:
            groups.setdefault(session_words(line), []).append(line.contact)
    return [Text(f"  {', '.join(names)}: {words}") for words, names in groups.items()]


def check_lines(summary: Mapping[str, Any]) -> list[Text]:
    """The two promises about money, each with the figures that show it."""
    budget, billed = summary["budget"], summary["carrier_billed"]
    agree = Decimal(budget["spent_carrier"]) == Decimal(billed)
    return [
        _check(
            not summary["overspent"],
            f"never overspent: {budget['spent']} spent and {budget['held']} held of {budget['limit']}",
            f"OVERSPENT: {budget['spent']} spent and {budget['held']} held of {budget['limit']}",
        ),
        _check(
            agree,
            f"ledger and carrier agree: both say {billed}",
            f"LEDGER AND CARRIER DIFFER: the carrier billed {billed}, the ledger has {budget['spent_carrier']} for it",
        ),
    ]


def _check(is_good: bool, good: str, bad: str) -> Text:
    return Text(f"✓ {good}", style=GOOD) if is_good else Text(f"✗ {bad}", style=BAD)


def _figures(summary: Mapping[str, Any]) -> Text:
    calls: Sequence[Mapping[str, Any]] = summary["calls"]
    decided = {kind: sum(call["decided_by"][kind] for call in calls) for kind in ("grammar", "llm", "template")}
    names = {"grammar": "by grammar", "llm": "by the model", "template": "by template"}
    how = ", ".join(f"{count} {names[kind]}" for kind, count in decided.items() if count)
    parts = [f"{sum(decided.values())} turns understood ({how})" if how else "no turn was heard"]
    if summary["first_dial_s"] is not None:
        parts.append(f"the first phone rang {duration_text(summary['first_dial_s'])} after the start")
    return Text("; ".join(parts), style="dim")
