"""What every reconciler works with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from kubernetes_asyncio.client.exceptions import ApiException
from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.contacts import ContactBook
from callfleet_core.dialing import DialStore
from callfleet_core.ledger import Attempt, Ledger, LimitResult
from callfleet_core.pricing import CostCalculator
from callfleet_core.privacy import Privacy
from callfleet_core.recovery import RecoveryBook
from callfleet_core.runs import CampaignRuns
from callfleet_core.subjects import Subjects
from callfleet_operator.apiserver import RefusedError
from callfleet_operator.carriers import Carriers
from callfleet_operator.kube import Kube
from callfleet_operator.lately import Lately
from callfleet_operator.latest import LatestAttempts
from callfleet_operator.manifests import PoolDefaults, pool_name
from callfleet_operator.models import Models
from callfleet_operator.objects import Campaign, Key, Meta, PodProblem
from callfleet_operator.plan.limits import MISMATCHES, InForce
from callfleet_operator.queue import KeyedQueue
from callfleet_operator.settings import OperatorSettings
from callfleet_operator.store import Store

_POOLS_REMEMBERED = 10_000
# A cycle over everything costs more than a look at one session: it waits this long for more of them.
SOON_S = 0.2
# A watch brings a newer version within a second. Where none has come by then, the write changed nothing: the API server
# failed, or was cut off. Whoever acts on a view that is stale after all is refused by its resourceVersion.
STALE_FOR = timedelta(seconds=5)
# A carrier knows how long a call was a moment after its end, or not for long.
ASK_AGAIN_AFTER = timedelta(minutes=1)
# A pod that could not be marked as being in a call gets none for so long; others may.
UNKEPT_FOR = timedelta(seconds=10)

_log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The wall clock, in UTC; planners are handed its value."""
    return datetime.now(UTC)


@dataclass
class Trust:
    """What the operator remembers of the database that it works with (reconcile/witness)."""

    # The tokens that the database may have: two, while the answer to a beat is out.
    tokens: frozenset[UUID] = frozenset()
    compared_at: datetime | None = None
    # What a Campaign says while nobody is called; None: all is well.
    recovering: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Turns:
    """What the last plan left for the next: each campaign's lead over the least served (plan/turns)."""

    leads_s: dict[tuple[str, str], float] = field(default_factory=dict)
    planned_at: datetime | None = None


@dataclass
class Retold:
    """Which waiting session was told last what has moved, and when (plan/told)."""

    last: tuple[str, str] | None = None
    at: datetime | None = None


@dataclass
class Walk:
    """How far the walk over open attempts has come (reconcile/attempts); it takes so many at a time."""

    after: Attempt | None = None
    # Of those that it has passed.
    live: int = 0


@dataclass
class Context:
    """The operator's parts, and the little that it remembers between reconciles."""

    settings: OperatorSettings
    store: Store
    queue: KeyedQueue[Key]
    kube: Kube
    engine: AsyncEngine
    ledger: Ledger
    contacts: ContactBook
    runs: CampaignRuns
    privacy: Privacy
    subjects: Subjects
    dialing: DialStore
    carriers: Carriers
    costs: CostCalculator
    models: Models
    now: Callable[[], datetime] = utc_now
    # Numbers in a status wait, to be written together (plan/news). Who looks by hand sees what each look finds.
    numbers_wait: bool = True
    # Admission gives slots away and pools remove pods: never at the same time.
    placement: asyncio.Lock = field(default_factory=asyncio.Lock)
    # By pod UID: since when a surplus pod is idle, and since when a marked one has no call.
    idle_since: dict[str, datetime] = field(default_factory=dict)
    quiet_since: dict[str, datetime] = field(default_factory=dict)
    # UIDs of pods that this leader has marked as being in a call; namespaces whose evictions it refuses.
    marked: set[str] = field(default_factory=set)
    guarded: set[str] = field(default_factory=set)
    # UIDs of pods that could not be marked.
    unkept: Lately[str] = field(default_factory=lambda: Lately(UNKEPT_FOR))
    # By pool: UIDs of earlier pools' pods that take no new calls; why no pod can be made, or marked; what Campaigns
    # were told.
    closing: dict[Key, frozenset[str]] = field(default_factory=dict)
    pool_problems: dict[Key, PodProblem] = field(default_factory=dict)
    mark_problems: dict[Key, PodProblem] = field(default_factory=dict)
    pods_shown: dict[Key, int] = field(default_factory=dict)
    # Each Campaign's generation and pool: a hash that many ask for.
    pools: dict[str, tuple[int, str]] = field(default_factory=dict)
    # Namespaces that have the workers' access and a copy of the named Secrets.
    prepared: set[tuple[str, ...]] = field(default_factory=set)
    # Which content of the installation's Secrets workers have (reconcile/logins), and each namespace has a copy of.
    login_version: str = ""
    copied: dict[str, str] = field(default_factory=dict)
    # What of each object PostgreSQL has: its version (UID, generation), and the windows that it counts in.
    in_force: dict[Key, InForce] = field(default_factory=dict)
    # By object: what PostgreSQL has taken of its limits, and of a Campaign's mirror, word for word. Nobody else writes
    # them while this operator leads: the same is not said again at every look.
    applied: dict[Key, Hashable] = field(default_factory=dict)
    mirrored: dict[Key, Hashable] = field(default_factory=dict)
    # By object: the windows whose names another time zone's have in the ledger, so that they count beside them.
    taken: dict[Key, frozenset[str]] = field(default_factory=dict)
    # Those of which no limit is in force, and why: the ledger keeps the name in another currency, or time zone.
    refused: dict[Key, LimitResult] = field(default_factory=dict)
    # The keys of the accounts of uncovered calls whose limits PostgreSQL has.
    uncovered: tuple[str, ...] = ()
    # UIDs of waiting sessions that were deleted because their Campaign makes another run now, or their person left it.
    put_aside: set[str] = field(default_factory=set)
    # Sessions whose last write failed: namespace, name, and the resourceVersion that it had seen.
    stale: Lately[tuple[str, str, str]] = field(default_factory=lambda: Lately(STALE_FOR))
    # Attempts whose carrier was asked how long their calls were.
    asked_for_duration: Lately[UUID] = field(default_factory=lambda: Lately(ASK_AGAIN_AFTER))
    # When each campaign may next call somebody who waits, as the last plan of admissions knew it.
    openings: dict[tuple[str, str], datetime] = field(default_factory=dict)
    # UIDs of the sessions that it left waiting for nothing but a slot or their turn, as far as the money goes.
    in_line: frozenset[str] = frozenset()
    # Attempts whose grants this operator has and is about to bind; it may take long where the API server is slow.
    binding: set[UUID] = field(default_factory=set)
    # By Campaign UID: the generation whose contacts PostgreSQL has, and the resourceVersion of the file with them.
    loaded_contacts: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    trust: Trust = field(default_factory=Trust)
    turns: Turns = field(default_factory=Turns)
    retold: Retold = field(default_factory=Retold)
    walk: Walk = field(default_factory=Walk)
    # By carrier account: calls that the walk has passed, and that are still to be looked after; how many are at it.
    calls: dict[str, dict[UUID, Attempt]] = field(default_factory=dict)
    calling: int = 0
    _latest: LatestAttempts = field(init=False)

    def __post_init__(self) -> None:
        self._latest = LatestAttempts(self.ledger)

    @property
    def recovery(self) -> RecoveryBook:
        """What the database was, and what must be booked again."""
        return RecoveryBook(self.engine, self.subjects, lambda: self.ledger.epoch)

    @property
    def pool_defaults(self) -> PoolDefaults:
        """What worker specs leave to the installation."""
        return PoolDefaults(
            image=self.settings.callfleet_worker_image,
            secret=self.settings.callfleet_worker_secret,
            carrier_secret=self.settings.callfleet_carrier_secret,
            keys_secret=self.settings.callfleet_keys_secret,
            key_version=self.subjects.newest_version,
            device=self.settings.callfleet_worker_device,
            image_pull_policy=self.settings.callfleet_worker_image_pull_policy,
            login_version=self.login_version,
        )

    def pool_of(self, campaign: Campaign) -> str:
        """The name of the pool that a Campaign asks for."""
        known = self.pools.get(campaign.meta.uid)
        if known is None or known[0] != campaign.meta.generation:
            if len(self.pools) > _POOLS_REMEMBERED:
                self.pools.clear()
            known = self.pools[campaign.meta.uid] = (
                campaign.meta.generation,
                pool_name(campaign.spec, self.pool_defaults),
            )
        return known[1]

    def problem_of(self, pool: Key) -> PodProblem | None:
        """What keeps a pool from having pods, or its pods from having calls."""
        return self.pool_problems.get(pool) or self.mark_problems.get(pool)

    def note_refusal(self, key: Key, limit: LimitResult | str) -> None:
        """Remembers whether the ledger refuses an object's limits: what it has under that name is of another object."""
        if isinstance(limit, LimitResult) and limit in MISMATCHES:
            self.refused[key] = limit
        else:
            self.refused.pop(key, None)

    def forget_limits(self, key: Key) -> None:
        """Forgets what PostgreSQL has of an object that is gone."""
        for known in (self.in_force, self.applied, self.mirrored, self.taken, self.refused):
            known.pop(key, None)

    def forget_pods(self) -> None:
        """Forgets what is remembered of pods that are gone."""
        there = {pod.meta.uid for pod in self.store.pods()}
        self.marked &= there
        for memory in (self.idle_since, self.quiet_since):
            for uid in memory.keys() - there:
                del memory[uid]

    def forget_namespace(self, namespace: str) -> None:
        """Has its workers' access made sure of again: the namespace may be another one of the same name."""
        self.prepared = {item for item in self.prepared if item[0] != namespace}
        self.guarded.discard(namespace)

    def look_soon(self, key: Key) -> None:
        """Asks for a look at what follows from many objects: a moment later, once for all that change meanwhile."""
        self.queue.add_after(key, SOON_S)

    async def latest_attempt(self, namespace: str, session_name: str) -> Attempt | None:
        """A session's newest attempt that was not revoked."""
        return await self._latest.of(namespace, session_name)

    async def tell(self, kind: str, meta: Meta, reason: str, message: str, *, warning: bool = False) -> None:
        """Posts an Event; failing to do so is logged and changes nothing."""
        try:
            await self.kube.post_event(kind, meta, reason=reason, message=message, warning=warning, now=self.now())
        except (ApiException, RefusedError, OSError, TimeoutError) as error:
            _log.warning("event not posted", reason=reason, error=type(error).__name__)
