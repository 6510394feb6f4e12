"""The audit: lists everything, for a re-list of a watch does not tell what vanished meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from callfleet_operator.apiserver import ListExpiredError
from callfleet_operator.objects import KINDS, Key
from callfleet_operator.store import Store
from callfleet_operator.watches import Watches


class Lists(Protocol):
    """The part of `kube.Kube` that it needs."""

    def pages(
        self, kind: str, knows: Callable[[dict[str, Any], int], bool] | None = None
    ) -> AsyncIterator[tuple[list[dict[str, Any]], int]]:
        """Every object of a kind, page by page, each with the resourceVersion of the whole list; of what is known, by
        its metadata and that version, the rest may be left out."""
        ...


# A list that expires again and again is one that this API server cannot give in five minutes.
_TRIES = 3


async def audit(kube: Lists, store: Store, watches: Watches, changed: Callable[[Iterable[Key]], None]) -> None:
    """Replaces the store's view; `changed` is told of each page's keys at once, for the next page may never come.

    Only a page is in memory at a time: fifty thousand sessions are some hundred megabytes of JSON. Raises
    ListExpiredError.
    """
    for kind in KINDS:
        for _ in range(_TRIES - 1):
            with suppress(ListExpiredError):
                await _audit(kube, kind, store, watches, changed)
                break
        else:
            await _audit(kube, kind, store, watches, changed)


async def _audit(
    kube: Lists, kind: str, store: Store, watches: Watches, changed: Callable[[Iterable[Key]], None]
) -> None:
    listing = store.listing(kind)
    async for bodies, version in kube.pages(kind, listing.knows if store.newest(kind) else None):
        if listing.is_of_the_past(version):
            watches.forget(kind)
        watches.listed(kind, bodies, asyncio.get_running_loop().time())
        changed(sorted(listing.take(bodies, version)))
    changed(sorted(listing.end()))
