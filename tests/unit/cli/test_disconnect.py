"""Removing a link that the kernel may remove at the same moment."""

from __future__ import annotations

import json

import pytest

from callfleet.cluster import network
from callfleet.cluster.errors import ClusterError


class FakeIp:
    """`ip` for one device: `goes_by_itself` is the kernel winning the race."""

    def __init__(self, *, goes_by_itself: bool) -> None:
        self.present, self._goes_by_itself, self.deletions = True, goes_by_itself, 0

    def __call__(self, *arguments: str) -> str:
        if arguments[:2] != ("link", "del"):
            return json.dumps([{"ifname": "cf-1"}] if self.present else [])
        self.deletions += 1
        if self._goes_by_itself:
            self.present = False
        raise ClusterError("`ip link del cf-1` failed")


def test_losing_the_race_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeIp(goes_by_itself=True)
    monkeypatch.setattr(network, "ip", fake)
    network.disconnect("cf-1")
    network.disconnect("cf-1")  # and it stays gone
    assert fake.deletions == 1


def test_a_link_that_cannot_be_removed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ip", FakeIp(goes_by_itself=False))
    with pytest.raises(ClusterError, match="link del"):
        network.disconnect("cf-1")
