"""A model server in memory, which all operators share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import ollama

from callfleet_operator.models import Models
from callfleet_operator.plan.model import full_name

PULL_S, STEPS = 5.0, 4
_ROUND_TRIP_S = 0.05


@dataclass
class PretendServer:
    """What is there, and what is being pulled."""

    there: set[str] = field(default_factory=lambda: {"smollm2"})

    async def list(self) -> Any:
        """As Ollama lists models."""
        await asyncio.sleep(_ROUND_TRIP_S)
        return SimpleNamespace(models=[SimpleNamespace(model=full_name(name)) for name in self.there])

    async def pull(self, model: str, *, stream: bool) -> AsyncIterator[Any]:
        """Pulls, with words on how far it is."""
        assert stream
        return self._pull(model)

    async def _pull(self, model: str) -> AsyncIterator[Any]:
        for step in range(1, STEPS + 1):
            await asyncio.sleep(PULL_S / STEPS)
            yield SimpleNamespace(total=STEPS, completed=step)
        self.there.add(model)

    async def close(self) -> None:
        """There is nothing to close."""


class PretendModels(Models):
    """The operator's own, which asks it."""

    def __init__(self, server: PretendServer, changed: Callable[[str], None]) -> None:
        super().__init__([], None, changed)
        self._servers = {"http://ollama": cast("ollama.AsyncClient", server)}
