"""The store keeps kinds apart, and never goes back in time."""

from __future__ import annotations

from typing import Any

from callfleet_operator.objects import Key
from callfleet_operator.store import Store


def body(name: str, version: int, **more: Any) -> dict[str, Any]:
    meta = {
        "namespace": "sales", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version),
        "creationTimestamp": "2026-11-22T09:00:00Z", "labels": {"callfleet.dev/pool": "pool"},
    }  # fmt: skip
    return {"metadata": meta, "spec": {}, **more}


SESSION = {
    "campaign": "spring", "runID": "1", "contactID": "0192f0c4-0000-7000-8000-000000000000", "currency": "USD",
    "maxDurationSeconds": 300,
}  # fmt: skip


def test_a_list_of_one_kind_replaces_nothing_of_another_of_the_same_name() -> None:
    store = Store()
    store.apply("Pod", body("one", 1))
    store.apply("CallSession", body("one", 2, spec=SESSION))
    listing = store.listing("Pod")
    assert listing.take([body("two", 3)], 3) == {Key("Pod", "sales", "two")}
    assert listing.end() == {Key("Pod", "sales", "one")}
    assert [item.meta.name for item in store.pods("sales")] == ["two"]
    assert [item.meta.name for item in store.sessions_of("sales", "spring")] == ["one"]
    assert set(store.all_keys()) == {Key("Pod", "sales", "two"), Key("CallSession", "sales", "one")}
    assert not store.budgets()
    assert not store.campaigns()


def test_a_list_comes_in_pages_beside_what_the_watch_brings() -> None:
    store = Store()
    for name in ("one", "two", "gone"):
        store.apply("Pod", body(name, 2))
    listing = store.listing("Pod")
    assert listing.take([body("one", 2)], 9) == set()
    store.apply("Pod", body("new", 11))
    store.apply("Pod", body("two", 12), deleted=True)
    assert listing.take([body("two", 2), body("three", 3)], 9) == {
        Key("Pod", "sales", name) for name in ("two", "three")
    }
    assert listing.end() == {Key("Pod", "sales", "gone")}
    assert {item.meta.name for item in store.pods()} == {"one", "three", "new"}


def test_a_campaign_has_its_own_sessions_and_no_other() -> None:
    store = Store()
    for name in ("one", "two", "three"):
        store.apply("CallSession", body(name, 1, spec=SESSION))
    store.apply("CallSession", body("one", 2, spec=SESSION, status={"state": "Canceled"}))
    store.apply("CallSession", body("two", 3, spec={**SESSION, "campaign": "summer"}))
    store.apply("CallSession", body("three", 4, spec=SESSION), deleted=True)
    (one,) = store.sessions_of("sales", "spring")
    assert (one.meta.name, one.state) == ("one", "Canceled")
    assert [item.meta.name for item in store.sessions_of("sales", "summer")] == ["two"]
    assert store.sessions_of("clinic", "spring") == []
    store.apply("CallSession", body("two", 5, spec={**SESSION, "campaign": "summer"}), deleted=True)
    assert store.sessions_of("sales", "summer") == []


def test_what_is_over_is_not_among_the_unfinished_and_may_come_back() -> None:
    store = Store()

    def unfinished() -> list[str]:
        assert sorted(item.meta.name for item in store.unfinished()) == sorted(
            item.meta.name for campaign in ("spring", "summer") for item in store.unfinished_of("sales", campaign)
        )
        return sorted(item.meta.name for item in store.unfinished())

    for name in ("one", "two"):
        store.apply("CallSession", body(name, 1, spec=SESSION))
    store.apply("CallSession", body("one", 2, spec=SESSION, status={"state": "Completed"}))
    assert unfinished() == ["two"]
    assert [item.meta.name for item in store.sessions_of("sales", "spring")] == ["one", "two"]
    store.apply("CallSession", body("one", 3, spec=SESSION))  # made again under its name
    assert unfinished() == ["one", "two"]
    store.apply("CallSession", body("two", 4, spec={**SESSION, "campaign": "summer"}))
    assert [item.meta.name for item in store.unfinished_of("sales", "spring")] == ["one"]
    store.apply("CallSession", body("two", 5, spec={**SESSION, "campaign": "summer"}), deleted=True)
    assert unfinished() == ["one"]


def test_what_is_gone_or_newer_is_not_replaced_by_a_late_event() -> None:
    store = Store()
    store.apply("CallSession", body("one", 5, spec=SESSION))
    assert store.apply("CallSession", body("one", 4, spec=SESSION)) is None
    store.apply("CallSession", body("one", 6, spec=SESSION), deleted=True)
    assert store.apply("CallSession", body("one", 5, spec=SESSION)) is None
    assert store.session("sales", "one") is None


def test_a_list_that_is_older_than_what_was_seen_is_of_a_restored_server_and_counts() -> None:
    store = Store()
    store.apply("CallSession", body("one", 50, spec=SESSION, status={"state": "Canceled"}))
    store.apply("CallSession", body("new", 51, spec=SESSION))
    store.apply("CallSession", body("two", 52, spec=SESSION), deleted=True)
    changed = store.listing("CallSession").take([body("one", 5, spec=SESSION), body("two", 6, spec=SESSION)], 9)
    assert changed == {Key("CallSession", "sales", name) for name in ("one", "two", "new")}
    assert [(item.meta.name, item.state) for item in store.sessions("sales")] == [
        ("one", "Pending"),
        ("two", "Pending"),
    ]
    store.apply("CallSession", body("one", 10, spec=SESSION, status={"state": "Canceled"}))
    assert store.session("sales", "one").state == "Canceled"  # type: ignore[union-attr]


def test_a_restored_server_whose_versions_were_raised_is_believed_by_its_list() -> None:
    """As `etcdutl snapshot restore --bump-revision` does; an event is still late or not by its version."""
    store = Store()
    store.apply("CallSession", body("one", 50, spec=SESSION, status={"state": "Canceled"}))
    store.apply("CallSession", body("two", 52, spec=SESSION), deleted=True)
    bodies = [body("one", 5, spec=SESSION), body("two", 6, spec=SESSION)]
    for each in bodies:
        assert store.apply("CallSession", each) is None
    listing = store.listing("CallSession")
    assert listing.take(bodies, 1_000_009) == {Key("CallSession", "sales", name) for name in ("one", "two")}
    assert [item.state for item in store.sessions("sales")] == ["Pending", "Pending"]


def test_what_came_after_a_list_had_begun_is_newer_than_the_list() -> None:
    store = Store()
    store.apply("CallSession", body("one", 5, spec=SESSION))
    listing = store.listing("CallSession")
    store.apply("CallSession", body("one", 12, spec=SESSION, status={"state": "Canceled"}))
    store.apply("CallSession", body("two", 13, spec=SESSION), deleted=True)
    assert listing.take([body("one", 5, spec=SESSION), body("two", 6, spec=SESSION)], 9) == {
        Key("CallSession", "sales", name) for name in ("one", "two")
    }  # looked at again for nothing
    assert [(item.meta.name, item.state) for item in store.sessions("sales")] == [("one", "Canceled")]


def test_of_what_does_not_fit_its_schema_no_earlier_version_is_acted_on_either() -> None:
    store = Store()
    key = Key("CallSession", "sales", "one")
    store.apply("CallSession", body("one", 5, spec=SESSION))
    assert store.apply("CallSession", body("one", 6, spec={**SESSION, "maxDurationSeconds": "long"})) == key
    assert store.session("sales", "one") is None
    assert store.sessions_of("sales", "spring") == []
    found = store.unreadable(key)
    assert found is not None
    assert found.problem.startswith("spec.maxDurationSeconds: ")
    assert store.all_keys() == [key]
    assert store.apply("CallSession", body("one", 5, spec=SESSION)) is None  # older than what was seen
    listing = store.listing("CallSession")
    assert listing.take([body("one", 7, spec=SESSION)], 8) == {key}
    assert store.unreadable(key) is None
    assert store.session("sales", "one") is not None
    store.apply("CallSession", body("one", 8, spec={**SESSION, "currency": 17}))
    assert store.listing("CallSession").take([], 9) == set()
    listing = store.listing("CallSession")
    listing.take([], 9)
    assert listing.end() == {key}
    assert store.all_keys() == []
