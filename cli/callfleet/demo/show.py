"""Shows a campaign as it runs, on standard error: a live screen on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live

from callfleet.demo.scene import Scene, SessionLine
from callfleet.demo.view import screen


class Onlooker(Protocol):
    """Something that is told each scene."""

    def tell(self, scene: Scene) -> None:
        """Take the newest scene."""


class Narrator:
    """Prints a line for each session that changes; never what was said, since logs are kept."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, str] = {}

    def tell(self, scene: Scene) -> None:
        """Says what changed since the last scene."""
        for session in scene.sessions:
            line = plain_line(session)
            if self._seen.get(session.key) != line:
                self._seen[session.key] = line
                self._console.print(f"  {session.key}  {line}", highlight=False, markup=False, soft_wrap=True)


def plain_line(session: SessionLine) -> str:
    """State, reason and figures as the object's status has them, for logs that are searched."""
    parts = [session.state]
    if session.reason:
        parts.append(f"({session.reason}{f', {session.shortfall} missing' if session.shortfall else ''})")
    if session.state == "Admitted":
        parts.append(f"{session.held} held, on {session.worker}")
    if session.disposition:
        parts.append(f"{session.disposition}, {session.duration_s} s, cost {session.cost or '-'}")
    return " ".join(parts)


class LiveScreen:
    """Redraws the whole screen, fitted to the terminal of the moment."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def tell(self, scene: Scene) -> None:
        """Draws the scene."""
        size = self._live.console.size
        self._live.update(screen(scene, size.width, size.height), refresh=True)


@contextmanager
def showing(console: Console) -> Iterator[Onlooker]:
    """The onlooker that suits the console; a live screen is gone when the block ends."""
    if not console.is_terminal:
        yield Narrator(console)
        return
    # What it draws changes once a second at most: no thread of its own.
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        yield LiveScreen(live)
