"""The audit: page by page, and nothing is lost when a page does not come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from tests.unit.operator.test_store import body

from callfleet_operator.audit import audit
from callfleet_operator.objects import Key
from callfleet_operator.store import Store
from callfleet_operator.watches import Watches

Page = list[dict[str, Any]]


class Pages:
    """Lists pods; `breaks` says after which page the API server is away."""

    def __init__(self, *pages: Page, breaks: int | None = None) -> None:
        self._pages, self._breaks = pages, breaks

    async def pages(
        self, kind: str, knows: Callable[[dict[str, Any], int], bool] | None = None
    ) -> AsyncIterator[tuple[Page, int]]:
        for index, page in enumerate(self._pages if kind == "Pod" else [[]]):
            if kind == "Pod" and index == self._breaks:
                raise OSError("away")
            yield [{"metadata": item["metadata"]} if knows and knows(item["metadata"], 9) else item for item in page], 9


def pod(name: str) -> Key:
    return Key("Pod", "sales", name)


async def test_what_changed_is_told_page_by_page_and_what_vanished_at_the_end() -> None:
    store, told = Store(), list[Key]()
    store.apply("Pod", body("gone", 2))
    store.apply("Pod", body("same", 3))
    await audit(Pages([body("one", 1), body("same", 3)], [body("two", 2)]), store, Watches(), told.extend)
    assert told == [pod("one"), pod("two"), pod("gone")]
    assert {item.meta.name for item in store.pods()} == {"one", "same", "two"}


async def test_a_list_that_breaks_off_forgets_nothing_and_its_first_page_counts() -> None:
    store, told = Store(), list[Key]()
    store.apply("Pod", body("later", 2))

    def tell(keys: Iterable[Key]) -> None:
        told.extend(keys)

    with pytest.raises(OSError, match="away"):
        await audit(Pages([body("one", 1)], [body("later", 2)], breaks=1), store, Watches(), tell)
    assert told == [pod("one")]
    assert {item.meta.name for item in store.pods()} == {"one", "later"}


async def test_of_what_is_known_only_metadata_comes_and_it_stays_as_it_was_seen() -> None:
    store, told = Store(), list[Key]()
    for name, version in (("same", 3), ("changed", 2), ("gone", 1)):
        store.apply("Pod", body(name, version, status={"phase": "Running"}))
    before = store.pod("sales", "same")
    await audit(Pages([body("same", 3), body("changed", 8)]), store, Watches(), told.extend)
    assert told == [pod("changed"), pod("gone")]
    assert store.pod("sales", "same") is before
    assert store.meta(pod("changed")).resource_version == "8"  # type: ignore[union-attr]  # it is there


async def test_a_server_that_was_restored_from_a_backup_knows_nothing_of_what_was_seen() -> None:
    store, told = Store(), list[Key]()
    store.apply("Pod", body("same", 3))
    store.apply("Pod", body("later", 12))  # the list is of version 9
    await audit(Pages([body("same", 3)]), store, Watches(), told.extend)
    assert [item.meta.name for item in store.pods()] == ["same"]
    assert set(told) == {pod("same"), pod("later")}


def test_metadata_of_what_has_changed_meanwhile_changes_nothing() -> None:
    store = Store()
    store.apply("Pod", body("one", 3))
    listing = store.listing("Pod")
    assert listing.knows(body("one", 3)["metadata"], 9)
    store.apply("Pod", body("one", 10))
    assert listing.take([{"metadata": body("one", 3)["metadata"]}], 9) == set()
    assert listing.end() == set()
    assert store.meta(pod("one")).resource_version == "10"  # type: ignore[union-attr]  # it is there
