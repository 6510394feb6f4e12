"""A watch that brings nothing of what the audits list is dead; one that is slow is not."""

from __future__ import annotations

from callfleet_operator.watches import SILENT_S, Watches


def listed(*versions: int) -> list[dict[str, dict[str, str]]]:
    return [{"metadata": {"resourceVersion": str(version)}} for version in versions]


def test_a_watch_that_brought_what_is_listed_lives() -> None:
    watches = Watches()
    watches.saw("Campaign", 7)
    watches.listed("Campaign", listed(3, 7), 0)
    assert watches.dead(10 * SILENT_S) == []


def test_a_watch_that_brings_nothing_is_dead_after_a_while() -> None:
    watches = Watches()
    watches.saw("Campaign", 7)
    for at in (0.0, 30.0, 60.0):
        watches.listed("Campaign", listed(8), at)
    assert watches.dead(SILENT_S) == []
    assert watches.dead(SILENT_S + 1) == ["Campaign"]


def test_a_watch_that_is_behind_but_moves_is_left_alone() -> None:
    watches = Watches()
    watches.listed("CallSession", listed(100), 0)
    watches.saw("CallSession", 50)
    assert watches.dead(SILENT_S + 1) == []
    watches.listed("CallSession", listed(100), 30)
    assert watches.dead(SILENT_S + 31) == ["CallSession"]


def test_a_kind_of_which_there_is_nothing_owes_nothing() -> None:
    watches = Watches()
    watches.listed("Budget", [], 0)
    assert watches.dead(1_000) == []


def test_a_restored_servers_lower_versions_are_owed_as_any_others() -> None:
    watches = Watches()
    watches.saw("Campaign", 100)
    watches.forget("Campaign")
    watches.listed("Campaign", listed(8), 0)
    assert watches.dead(SILENT_S + 1) == ["Campaign"]
