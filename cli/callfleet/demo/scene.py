"""What a watched campaign looks like at one moment: plain data, made purely from what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIVE_STATES = frozenset({"Admitted", "Dialing", "InProgress"})
FINAL_STATES = frozenset({"Completed", "Failed", "Canceled"})


@dataclass(frozen=True)
class Budget:
    """An account's balances in micros; `limit_micros` is None where there is no limit."""

    name: str
    currency: str
    limit_micros: int | None
    held_micros: int
    spent_micros: int


@dataclass(frozen=True)
class Saying:
    """One turn of a conversation: the agent's or the called person's."""

    by_agent: bool
    text: str


@dataclass(frozen=True)
class Talk:
    """A call and what was said in it so far; `answered_s` counts from when somebody answered, None before."""

    contact: str
    on_the_line: bool
    answered_s: float | None
    sayings: Sequence[Saying]


@dataclass(frozen=True)
class Books:
    """What PostgreSQL says: contacts' names by session, balances, the calls of the moment."""

    names: Mapping[str, str]
    budgets: Sequence[Budget]
    talks: Sequence[Talk]


@dataclass(frozen=True)
class SessionLine:
    """One session; money is text in currency units, as in its status."""

    key: str
    contact: str
    state: str
    reason: str | None = None
    shortfall: str | None = None
    retry_at: str | None = None
    held: str | None = None
    worker: str | None = None
    disposition: str | None = None
    duration_s: int = 0
    cost: str | None = None


@dataclass(frozen=True)
class Scene:
    """Everything a view shows."""

    elapsed_s: float
    sessions: Sequence[SessionLine]
    budgets: Sequence[Budget]
    talks: Sequence[Talk]


def make_scene(elapsed_s: float, sessions: Sequence[Mapping[str, Any]], books: Books) -> Scene:
    """The scene of these CallSession objects, in their campaign's order, and these books."""
    lines = [_line(item, books.names) for item in sorted(sessions, key=_position)]
    return Scene(elapsed_s, lines, books.budgets, books.talks)


def what_counts(scene: Scene) -> object:
    """What of a scene is news when it changes: sessions and words, not the time."""
    talks = [(talk.contact, talk.on_the_line, tuple(talk.sayings)) for talk in scene.talks]
    return tuple(scene.sessions), talks


def _position(item: Mapping[str, Any]) -> tuple[int, str]:
    metadata = item["metadata"]
    return int(metadata.get("annotations", {}).get("callfleet.dev/position", "0")), metadata["name"]


def _line(item: Mapping[str, Any], names: Mapping[str, str]) -> SessionLine:
    key, status = item["metadata"]["name"], item.get("status", {})
    result = status.get("result") or {}
    return SessionLine(
        key=key,
        contact=names.get(key) or key,
        state=status.get("state", "Pending"),
        reason=status.get("reason"),
        shortfall=status.get("shortfall"),
        retry_at=status.get("retryAt"),
        held=(status.get("attempt") or {}).get("held"),
        worker=status.get("worker"),
        disposition=result.get("disposition"),
        duration_s=result.get("durationSeconds") or 0,
        cost=result.get("cost"),
    )
