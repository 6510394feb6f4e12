"""Shows a run's steps on stderr: a live table on a terminal, plain lines every 15 s elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from callfleet.parts.progress import Board, Row, State, Step, duration_text, left_s, row_text

PLAIN_EVERY_S = 15.0
MARKS = {
    State.WAITING: "·",
    State.RUNNING: "▸",
    State.DONE: "✓",
    State.SKIPPED: "✓",
    State.FAILED: "✗",
}


class Progress:
    """A thread-safe progress display: `with Progress("Building") as p: … with p.step(…): …`."""

    def __init__(self, title: str, steps: Iterable[Step] = (), console: Console | None = None) -> None:
        self._title = title
        self._board = Board(steps)
        self._lock = threading.Lock()
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._began_s = time.monotonic()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=4)
            self._live.start()
        else:
            self._print_overview()
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        if self._live is not None:
            self._live.stop()

    def add(self, step: Step) -> None:
        """List a further step."""
        with self._lock:
            self._board.add(step)

    def note(self, key: str, text: str) -> None:
        """Put a short remark beside a step."""
        with self._lock:
            self._board.note(key, text)
        self._line(key)

    def skip(self, key: str, why: str = "") -> None:
        """Mark a step as already satisfied."""
        self._end(key, State.SKIPPED, why)

    def say(self, text: str) -> None:
        """Print a line above the steps."""
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, key: str) -> Iterator[None]:
        """Run a listed step: done when the block ends, failed when it raises."""
        with self._lock:
            self._board.start(key, time.monotonic())
        self._line(key)
        try:
            yield
        except BaseException:
            self._end(key, State.FAILED)
            raise
        self._end(key, State.DONE)

    def _end(self, key: str, state: State, note: str = "") -> None:
        with self._lock:
            self._board.end(key, state, time.monotonic(), note)
        self._line(key)

    def _rows(self) -> tuple[Row, ...]:
        with self._lock:
            return tuple(self._board.rows)

    def _summary(self, rows: tuple[Row, ...]) -> str:
        now_s = time.monotonic()
        passed, left = duration_text(now_s - self._began_s), left_s(rows, now_s)
        return f"{self._title}: {passed} passed, about {duration_text(left)} left" if left else self._title

    def _line(self, key: str) -> None:
        if self._live is not None:
            return
        row = next(row for row in self._rows() if row.step.key == key)
        self.say(f"  {MARKS[row.state]} {row_text(row, time.monotonic())}")

    def _print_overview(self) -> None:
        rows = self._rows()
        self.say(self._summary(rows))
        for row in rows:
            self.say(f"  {MARKS[row.state]} {row_text(row, time.monotonic())}")

    def _tick(self) -> None:
        while not self._stop.wait(PLAIN_EVERY_S):
            rows = self._rows()
            running = [row_text(row, time.monotonic()) for row in rows if row.state is State.RUNNING]
            if running:
                self.say(f"{self._summary(rows)} | " + "; ".join(running))

    def _table(self) -> Table:
        rows, now_s = self._rows(), time.monotonic()
        table = Table(title=self._summary(rows), title_justify="left", show_header=False, box=None)
        for row in rows:
            table.add_row(MARKS[row.state], row_text(row, now_s))
        return table
