"""Steps with their expected minutes, what has passed and what is left: pure bookkeeping and an estimate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

MIN_PACE, MAX_PACE = 0.5, 4.0
# A step that outlives its estimate is assumed to need a further tenth of it, so that "left" never reads 0.
OVERDUE_SHARE = 0.1


class State(Enum):
    """How far a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "there"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    """One thing to do; `lane` names steps that run one after the other, beside other lanes."""

    key: str
    title: str
    expected_s: float
    lane: str = "main"


@dataclass(frozen=True)
class Row:
    """A step and how far it is; times are monotonic seconds."""

    step: Step
    state: State = State.WAITING
    started_s: float = 0.0
    ended_s: float = 0.0
    note: str = ""

    def elapsed_s(self, now_s: float) -> float:
        """Seconds the step has run, 0 while it waits."""
        if self.state in (State.WAITING, State.SKIPPED):
            return 0.0
        return (now_s if self.state is State.RUNNING else self.ended_s) - self.started_s


class Board:
    """The rows of a run. Not thread-safe: its owner locks."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._rows: dict[str, Row] = {step.key: Row(step) for step in steps}

    def add(self, step: Step) -> None:
        """Append a step that waits; a known key is left as it is."""
        self._rows.setdefault(step.key, Row(step))

    def start(self, key: str, now_s: float) -> None:
        """Mark a step as running."""
        self._rows[key] = replace(self._rows[key], state=State.RUNNING, started_s=now_s)

    def end(self, key: str, state: State, now_s: float, note: str = "") -> None:
        """Mark a step as done, skipped or failed."""
        row = self._rows[key]
        started_s = row.started_s if row.state is State.RUNNING else now_s
        self._rows[key] = replace(row, state=state, started_s=started_s, ended_s=now_s, note=note)

    def note(self, key: str, note: str) -> None:
        """Put a short remark beside a step."""
        self._rows[key] = replace(self._rows[key], note=note)

    @property
    def rows(self) -> Sequence[Row]:
        """The rows in the order they were added."""
        return tuple(self._rows.values())


def pace(rows: Iterable[Row]) -> float:
    """How this machine compares with the estimates: 2.0 is twice as slow; 1.0 while nothing is done."""
    done = [row for row in rows if row.state is State.DONE and row.step.expected_s > 0]
    expected_s = sum(row.step.expected_s for row in done)
    if not expected_s:
        return 1.0
    actual_s = sum(row.ended_s - row.started_s for row in done)
    return min(MAX_PACE, max(MIN_PACE, actual_s / expected_s))


def left_s(rows: Sequence[Row], now_s: float) -> float:
    """Seconds until the slowest lane is through, each at the pace it has shown so far.

    A fast network says nothing about how fast this machine compiles.
    """
    lanes = {row.step.lane for row in rows}
    return max((_lane_left_s([row for row in rows if row.step.lane == lane], now_s) for lane in lanes), default=0.0)


def _lane_left_s(rows: Sequence[Row], now_s: float) -> float:
    factor = pace(rows)
    total_s = 0.0
    for row in rows:
        if row.state in (State.WAITING, State.RUNNING):
            expected_s = row.step.expected_s * factor
            total_s += max(expected_s - row.elapsed_s(now_s), expected_s * OVERDUE_SHARE)
    return total_s


def duration_text(seconds: float) -> str:
    """`45 s` below 100 seconds, else `3 min 20 s`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s"


def row_text(row: Row, now_s: float) -> str:
    """One row as a plain line, without its title's padding."""
    expected = duration_text(row.step.expected_s)
    if row.state is State.WAITING:
        tail = f"about {expected}"
    elif row.state is State.SKIPPED:
        tail = "already there"
    elif row.state is State.RUNNING:
        tail = f"{duration_text(row.elapsed_s(now_s))} of about {expected}"
    else:
        tail = f"{row.state.value} in {duration_text(row.elapsed_s(now_s))}"
    return f"{row.step.title}: {tail}" + (f" ({row.note})" if row.note else "")
