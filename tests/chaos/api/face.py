"""What a world needs of an API server, the model or the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.chaos.api.server import Body, Change


class Api(Protocol):
    """The server."""

    changes: list[Change]
    on_change: list[Callable[[Change], None]]

    def request(self, method: str, path: str, body: Body | None = None, **query: str) -> Body:
        """One call. Raises RefusalError."""

    def assign(self, path: str, node: str) -> None:
        """What a scheduler does."""

    def all(self, kind: str) -> list[Body]:
        """Every object of a kind, in their order."""

    def collect(self) -> bool:
        """One step of the garbage collector; true when something went."""
