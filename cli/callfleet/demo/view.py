"""A campaign at one moment as a screen: pure, from a scene and a size to something rich can print."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from callfleet.demo.scene import FINAL_STATES, LIVE_STATES, Budget, Scene, SessionLine, Talk
from callfleet.demo.words import session_words
from callfleet.parts.progress import duration_text
from callfleet_core.money import format_micros

# Text.wrap wants a console to measure cells with; it prints nothing.
_WRAPPER = Console(width=200, file=io.StringIO())
BAR_CELLS = 40
# Below this many columns the conversation goes under the sessions instead of beside them.
WIDE_COLUMNS = 100
# Lines that frames, counts and bars take; what is left of the terminal's height is for sessions and talks.
FRAME_LINES = 7
FEWEST_ROWS = 4
MARKS = {
    "Pending": ("·", "dim"),
    "Admitted": ("▸", "cyan"),
    "Dialing": ("☎", "yellow"),
    "InProgress": ("●", "bold green"),
    "Completed": ("✓", "green"),
    "Failed": ("✗", "red"),
    "Canceled": ("-", "dim"),
}


def screen(scene: Scene, width: int, height: int) -> RenderableType:
    """Money, sessions and the conversations of the moment, cut to a terminal of `width` by `height`."""
    rows = max(FEWEST_ROWS, height - FRAME_LINES - len(scene.budgets))
    top = Panel(Group(_counts(scene), *(budget_line(item) for item in scene.budgets)), title="Campaign", expand=True)
    if width >= WIDE_COLUMNS:
        body = Table.grid(expand=True)
        body.add_column(ratio=1)
        body.add_column(ratio=1)
        body.add_row(_sessions(scene.sessions, rows), _talks(scene.talks, rows, width // 2))
        return Group(top, body)
    share = max(FEWEST_ROWS, rows // 2 - 1)
    return Group(top, _sessions(scene.sessions, share), _talks(scene.talks, share, width))


def _counts(scene: Scene) -> Text:
    counts = Counter(line.state for line in scene.sessions)
    parts = [f"{len(scene.sessions)} sessions"]
    parts += [f"{counts[state]} {state}" for state in MARKS if counts[state]]
    parts.append(f"{duration_text(scene.elapsed_s)} since the start")
    return Text("   ".join(parts))


def budget_line(budget: Budget) -> Text:
    """A bar of what is spent, held and free, and the amounts."""
    amounts = f"spent {format_micros(budget.spent_micros)}, held {format_micros(budget.held_micros)}"
    if budget.limit_micros is None:
        return Text(f"{budget.name}: {amounts} {budget.currency}, no limit")
    free = budget.limit_micros - budget.spent_micros - budget.held_micros
    limit = format_micros(budget.limit_micros)
    text = Text(f"{budget.name}  ")
    text.append_text(bar(budget.limit_micros, budget.spent_micros, budget.held_micros))
    return text.append(f"  {amounts}, free {format_micros(free)} of {limit} {budget.currency}")


def bar(limit_micros: int, spent_micros: int, held_micros: int, cells: int = BAR_CELLS) -> Text:
    """`cells` wide: spent, then held, then free; never wider, and what is not zero shows at least one cell."""
    spent = _cells(spent_micros, limit_micros, cells)
    held = min(_cells(held_micros, limit_micros, cells), cells - spent)
    text = Text()
    text.append("█" * spent, style="green")
    text.append("▓" * held, style="yellow")
    return text.append("░" * (cells - spent - held), style="dim")


def _cells(part_micros: int, limit_micros: int, cells: int) -> int:
    if part_micros <= 0:
        return 0
    if limit_micros <= 0:
        return cells
    return min(cells, max(1, part_micros * cells // limit_micros))


def chosen(lines: Sequence[SessionLine], rows: int) -> tuple[Sequence[SessionLine], int]:
    """At most `rows` lines in their order, the live ones first of all, and how many are left out."""
    if len(lines) <= rows:
        return lines, 0
    live = [line for line in lines if line.state in LIVE_STATES]
    over = [line for line in reversed(lines) if line.state in FINAL_STATES]
    waiting = [line for line in lines if line.state not in LIVE_STATES | FINAL_STATES]
    # Half of what the live ones leave shows who was called last, the rest who comes next.
    free = max(0, rows - len(live))
    kept = [*live, *waiting[: free - min(len(over), free // 2)]]
    kept += over[: max(0, rows - len(kept))]
    keys = {line.key for line in kept[:rows]}
    return [line for line in lines if line.key in keys], len(lines) - len(keys)


def _sessions(lines: Sequence[SessionLine], rows: int) -> Panel:
    shown, left_out = chosen(lines, rows - 1)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for line in shown:
        mark, style = MARKS.get(line.state, ("?", ""))
        table.add_row(Text(mark, style=style), Text(line.contact, style="bold"), Text(session_words(line), style=style))
    if left_out:
        table.add_row("", "", Text(f"and {left_out} more", style="dim"))
    return Panel(table, title="Sessions", expand=True)


def _talks(talks: Sequence[Talk], rows: int, width: int) -> RenderableType:
    if not talks:
        return Panel(Text("Nobody has been called yet.", style="dim"), title="On the line", expand=True)
    each = max(2, rows // len(talks) - (2 if len(talks) > 1 else 0))
    return Group(*(_talk(talk, each, width - 4) for talk in talks))


def _talk(talk: Talk, rows: int, width: int) -> Panel:
    lines: list[Text] = []
    for saying in talk.sayings:
        who, style = ("agent", "cyan") if saying.by_agent else (talk.contact, "magenta")
        text = Text.assemble((f"{who}: ", f"bold {style}"), saying.text)
        # Wrapped here, since only what is wrapped can be cut to the newest lines.
        lines.extend(text.wrap(_WRAPPER, max(20, width)))
    if not lines:
        lines = [Text("The phone rings." if talk.on_the_line else "Nothing was said.", style="dim")]
    return Panel(Group(*lines[-rows:]), title=Text(_title(talk)), expand=True)


def _title(talk: Talk) -> str:
    if not talk.on_the_line:
        return f"{talk.contact} has hung up"
    if talk.answered_s is None:
        return f"Calling {talk.contact}"
    return f"{talk.contact}, on the line for {duration_text(talk.answered_s)}"
