"""Deliberate defects of the operator, each such as somebody may write, and a plan by which it shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from kubernetes_asyncio.client.exceptions import ApiException
from tests.chaos.plans.faults import Fault, Moment
from tests.chaos.plans.play import Plan, Result

from callfleet_operator.engine import Engine
from callfleet_operator.kube import Kube
from callfleet_operator.objects import Key
from callfleet_operator.reconcile import attempts
from callfleet_operator.store import Store

ASIDE = 10


@dataclass(frozen=True)
class Defect:
    """`at` is found in the write's or request's label at which `kind` strikes, the `which`-th of them."""

    what: Callable[[], Any]
    workflow: str
    kind: str
    at: str
    moment: Moment = "before"
    which: int = 0

    def plans(self, reference: Result) -> Iterator[Plan]:
        """The plan by which it shows, then those beside it: no two runs write in quite the same order."""
        labels = reference.requests if self.kind == "conflict" else reference.writes
        found = [index for index, label in enumerate(labels) if re.search(self.at, label)]
        for aside in sorted(range(-ASIDE, ASIDE + 1), key=abs):
            if 0 <= (at := found[self.which] + aside) < len(labels):
                yield Plan(self.workflow, Fault(self.kind, at, self.moment))


@contextmanager
def broken(name: str) -> Iterator[None]:
    """The operator with this defect, for the block."""
    with DEFECTS[name].what():
        yield


async def _create(self: Kube, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return await self.write("POST", path, body)
    except ApiException as error:
        if error.status == 409:
            return None
        raise


async def _nothing(*_: Any) -> None:
    """What was forgotten."""


def _never(*_: Any) -> str | None:
    return None


def _kept(self: Store, key: Key, uid: str, version: int) -> None:
    self._gone[uid] = version


@contextmanager
def _unbound_kept() -> Iterator[None]:
    with patch.object(Engine, "_revoke_unbound", _nothing), patch.object(attempts, "_revocation", _never):
        yield


DEFECTS: Mapping[str, Defect] = {
    # A quota's conflict is taken for an object that is there already.
    "conflict-is-there": Defect(
        lambda: patch.object(Kube, "create", _create), "start", "conflict", "POST /apis/rbac", "before"
    ),
    # What was held when the leader died stays held.
    "unbound-kept": Defect(_unbound_kept, "start", "kill", "ledger_hold", "after"),
    # What was deleted while nobody led is never closed.
    "unlisted-forgotten": Defect(
        lambda: patch.object(Engine, "_enqueue_unlisted", _nothing), "delete", "leave", "campaigns/spring$",
        "after", -1,
    ),
    # What is gone stays in sight.
    "gone-kept": Defect(lambda: patch.object(Store, "_remove", _kept), "lost", "kill", "ledger_settle", "before"),
}  # fmt: skip
