"""Whose turn it is among campaigns of one priority: slots in proportion to weight, and nobody starves. Pure.

A campaign's place is what it would hold with one call more, over its weight, plus its lead: how much more than the
least served it has had already. The first part shares what is open now; the second lets a campaign whose share is less
than a slot have a whole one from time to time (docs/decisions/0022).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

CampaignKey = tuple[str, str]

# A lead of so many seconds of a slot, for each unit of weight, puts a campaign back by one open call.
CALL_S = 60.0
# A call that ends before the next plan was one, too.
SHORTEST_CALL_S = 2.0
# Nobody falls further behind than this, in the same seconds: who could not be called for a day takes no day's slots.
LONGEST_LEAD_S = 600.0
# A cycle that comes late says nothing of what was open meanwhile.
LONGEST_CYCLE_S = 60.0


@dataclass(frozen=True)
class Share:
    """What a campaign's turns depend on: its weight, its open calls, and its lead in seconds per unit of weight."""

    weight: int = 10
    open_calls: int = 0
    lead_s: float = 0.0

    def place(self, more: int) -> float:
        """Where it stands with so many calls more; the lowest is next."""
        return (self.open_calls + more) / self.weight + self.lead_s / CALL_S


class Waiting(Protocol):
    """A session in the queue."""

    @property
    def key(self) -> tuple[str, str]: ...

    @property
    def campaign(self) -> CampaignKey: ...

    @property
    def priority(self) -> int: ...

    @property
    def position(self) -> int: ...

    @property
    def created(self) -> datetime: ...


Item = TypeVar("Item", bound=Waiting)


class _Place(NamedTuple):
    """An entry of the heap; the older campaign first, then by name."""

    place: float
    created: datetime
    campaign: CampaignKey


@dataclass
class Turns:
    """The order of a plan, which grows with what it gives away: say `took` after each session that was admitted."""

    shares: Mapping[CampaignKey, Share]
    _taken: dict[CampaignKey, int] = field(default_factory=dict)

    def took(self, campaign: CampaignKey) -> None:
        """One of its sessions was admitted; whoever only waits costs its campaign no turn."""
        self._taken[campaign] = self._taken.get(campaign, 0) + 1

    def order(self, pending: Sequence[Item]) -> Iterator[Item]:
        """Every session once: higher priorities first and whole, then campaigns by share, then contacts in order."""
        queues: dict[int, dict[CampaignKey, list[Item]]] = {}
        # Popped from the end: the last is the first.
        for item in sorted(pending, key=lambda each: (each.created, each.position, each.key), reverse=True):
            queues.setdefault(item.priority, {}).setdefault(item.campaign, []).append(item)
        for priority in sorted(queues, reverse=True):
            yield from self._of_one_priority(queues[priority])

    def _of_one_priority(self, queues: dict[CampaignKey, list[Item]]) -> Iterator[Item]:
        heap = [self._place(campaign, queue) for campaign, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            campaign = heapq.heappop(heap).campaign
            queue = queues[campaign]
            before = self._taken.get(campaign, 0)
            while queue and self._taken.get(campaign, 0) == before:
                yield queue.pop()
            if queue:
                heapq.heappush(heap, self._place(campaign, queue))

    def _place(self, campaign: CampaignKey, queue: Sequence[Item]) -> _Place:
        share = self.shares.get(campaign, Share())
        return _Place(share.place(self._taken.get(campaign, 0) + 1), queue[-1].created, campaign)


def plan_leads(
    shares: Mapping[CampaignKey, Share],
    admitted: Mapping[CampaignKey, int],
    contending: AbstractSet[CampaignKey],
    passed_s: float,
) -> dict[CampaignKey, float]:
    """Each campaign's lead for the next plan, in seconds; who has none is not in it.

    What was open since the last plan counts for as long as that is ago, what is admitted now at least SHORTEST_CALL_S.
    `contending`: campaigns whose sessions were admitted, or waited for what others have. The least served of them has
    no lead; where nobody contends nothing is scarce, and what was had is forgotten.
    """
    if not contending:
        return {}
    passed_s = min(passed_s, LONGEST_CYCLE_S)
    had = {
        key: share.lead_s + (share.open_calls * passed_s + admitted.get(key, 0) * SHORTEST_CALL_S) / share.weight
        for key, share in shares.items()
    }
    most = max(had.get(key, 0.0) for key in contending)
    least = max(min(had.get(key, 0.0) for key in contending), most - LONGEST_LEAD_S)
    return {key: value - least for key, value in had.items() if value > least}
