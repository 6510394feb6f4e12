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
    return {"metadata": meta, **more}


SESSION = {
    "campaign": "spring", "runID": "1", "contactID": "0192f0c4-0000-7000-8000-000000000000", "currency": "USD",
    "maxDurationSeconds": 300,
}  # fmt: skip


def test_a_list_of_one_kind_replaces_nothing_of_another_of_the_same_name() -> None:
    store = Store()
    store.apply("Pod", body("one", 1))
    store.apply("CallSession", body("one", 2, spec=SESSION))
    assert store.replace("Pod", [body("two", 3)], 3) == {Key("Pod", "sales", "one"), Key("Pod", "sales", "two")}
    assert [item.meta.name for item in store.pods("sales")] == ["two"]
    assert [item.meta.name for item in store.sessions("sales", "spring")] == ["one"]
    assert set(store.all_keys()) == {Key("Pod", "sales", "two"), Key("CallSession", "sales", "one")}
    assert not store.budgets()
    assert not store.campaigns()


def test_what_is_gone_or_newer_is_not_replaced_by_a_late_event() -> None:
    store = Store()
    store.apply("CallSession", body("one", 5, spec=SESSION))
    assert store.apply("CallSession", body("one", 4, spec=SESSION)) is None
    store.apply("CallSession", body("one", 6, spec=SESSION), deleted=True)
    assert store.apply("CallSession", body("one", 5, spec=SESSION)) is None
    assert store.session("sales", "one") is None
