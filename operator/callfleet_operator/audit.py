"""The audit: lists everything, for a re-list of a watch does not tell what vanished meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

from callfleet_operator.objects import Key
from callfleet_operator.store import KINDS, Store
from callfleet_operator.watches import Watches


class Lists(Protocol):
    """The part of `kube.Kube` that it needs."""

    def pages(self, kind: str) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        """Every object of a kind, page by page, each with the resourceVersion of the whole list."""
        ...


async def audit(kube: Lists, store: Store, watches: Watches, changed: Callable[[Iterable[Key]], None]) -> None:
    """Replaces the store's view; `changed` is told of each page's keys at once, for the next page may never come.

    Only a page is in memory at a time: fifty thousand sessions are some hundred megabytes of JSON.
    """
    for kind in KINDS:
        listing = store.listing(kind)
        async for bodies, version in kube.pages(kind):
            watches.listed(kind, bodies, asyncio.get_running_loop().time())
            changed(sorted(listing.take(bodies, version)))
        changed(sorted(listing.end()))
