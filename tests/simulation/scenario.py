"""What a seed means: a day, its campaigns and budgets, how people and the carrier behave, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.simulation.clock import Chances

NAMESPACE: Final = "sales"
DAY_S: Final = 86_400
# A zone and a local day in it: clocks go forward or back, a month or a year ends, or nothing happens.
DAYS: Final = (
    ("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01"), ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"), ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"),
    ("America/New_York", "2026-05-31"), ("UTC", "2026-12-31"), ("Asia/Kolkata", "2026-06-17"),
)  # fmt: skip
PEOPLES_ZONES: Final = (
    "America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe",
    "Asia/Kolkata", "UTC",
)  # fmt: skip
HOURS: Final = (("09:00", "20:00"), ("08:00", "12:00"), ("01:00", "04:00"), ("00:00", "24:00"), ("17:00", "21:00"))
_WEEK: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Carrier:
    """How the carrier behaves: calls a second and at once; how likely each end is; how late its words come."""

    calls_per_second: float
    max_concurrent: int
    answered: float
    busy: float
    failed: float
    longest_s: int
    lost_callbacks: float
    late_callbacks: float
    late_durations: float
    refused: float
    unanswered: float


@dataclass(frozen=True)
class Faults:
    """How often something goes wrong, or is changed by somebody, in the day."""

    restarts: int
    rivals: int
    lost_pods: int
    outages: int
    stale_views: int
    opt_outs: int
    cancels: int
    limits: int
    suspensions: int
    deletions: int
    hurries: int
    models: int
    windows: int


@dataclass(frozen=True)
class Scenario:
    """A seed's day. `campaigns` and `budgets` are specs by name; `people` has everybody's time zones."""

    seed: int
    beginning: datetime
    campaigns: dict[str, dict[str, Any]]
    budgets: dict[str, dict[str, Any]]
    people: tuple[tuple[str, ...], ...]
    lists: dict[str, tuple[int, ...]]
    carrier: Carrier
    faults: Faults
    chances: Chances = field(compare=False)

    @property
    def end(self) -> datetime:
        """After 24 hours."""
        return self.beginning + timedelta(seconds=DAY_S)

    @property
    def zones(self) -> dict[str, str]:
        """The time zone of each Campaign's and Budget's limits."""
        kinds = (("Campaign", self.campaigns), ("Budget", self.budgets))
        return {f"{kind}/{name}": spec["timeZone"] for kind, specs in kinds for name, spec in specs.items()}


def scenario(seed: int, contacts: int) -> Scenario:
    """The day of a seed with so many contacts, those of all its campaigns together."""
    chances = Chances(seed)
    dice = chances.of("scenario")
    zone, day = DAYS[seed % len(DAYS)]
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    names = ["spring", "autumn", "winter"][: dice.choice((1, 1, 1, 2, 2, 3))]
    people, lists = _people(dice, contacts, names, zone)
    return Scenario(
        seed=seed,
        beginning=midnight - timedelta(seconds=dice.choice((0, 1_800, 3_600, 14_400, 21_600)) + dice.randrange(60)),
        campaigns={name: _campaign(dice, name, zone, len(lists[name])) for name in names},
        budgets=_budgets(dice, zone, contacts),
        people=people,
        lists=lists,
        carrier=_carrier(dice, contacts),
        faults=_faults(dice, contacts),
        chances=chances,
    )


def _people(
    dice: Random, contacts: int, names: list[str], zone: str
) -> tuple[tuple[tuple[str, ...], ...], dict[str, tuple[int, ...]]]:
    """Everybody's zones (two for some, none for a few), and who is on which list: a few are on two."""
    people = []
    for _ in range(contacts):
        one = zone if dice.random() < 0.5 else dice.choice(PEOPLES_ZONES)
        chance = dice.random()
        people.append(() if chance < 0.02 else (one, dice.choice(PEOPLES_ZONES)) if chance < 0.12 else (one,))
    shares = {name: [each for each in range(contacts) if each % len(names) == at] for at, name in enumerate(names)}
    for name in names[1:]:
        shares[name] += dice.sample(shares[names[0]], contacts // 20)
    return tuple(people), {name: tuple(dice.sample(share, len(share))) for name, share in shares.items()}


def _campaign(dice: Random, name: str, zone: str, contacts: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "timeZone": zone,
        "contacts": {"listRef": {"name": name}},
        "priority": dice.choice((0, 0, 0, 1)),
        "weight": dice.choice((10, 10, 1, 30)),
        "deletionPolicy": dice.choice(("Drain", "HangUp")),
        "limits": _limits(dice, contacts) if dice.random() < 0.5 else {},
        "budgetRefs": [],
        "call": {
            "from": ["+15550100199"], "maxDurationSeconds": dice.choice((60, 120, 300)),
            "ringTimeoutSeconds": dice.choice((15, 30)), "maxQueueSeconds": 30,
        },
        "pacing": {"maxConcurrent": dice.choice((3, 8, 15))},
        "attempts": {
            "max": dice.choice((1, 2, 3)),
            "retryAfterMinutes": {"busy": dice.choice((5, 15, 60)), "noAnswer": dice.choice((30, 240))},
        },
        "agent": {
            "persona": "Asks.", "llm": {"model": "llama3.2:1b"}, "opening": "Hello.", "closing": "Goodbye.",
            "questions": [{"name": "ok", "ask": ["Is all well?"], "type": "YesNo"}],
        },
        "worker": {
            "slotsPerWorker": dice.choice((1, 2, 4)), "minWorkers": dice.choice((0, 0, 1)),
            "maxWorkers": dice.choice((2, 4, 6)), "drainSeconds": 600,
        },
        "lookAhead": dice.choice((10, 20, 40)),
        "ttlSecondsAfterFinished": dice.choice((60, 600)),
    }  # fmt: skip
    if dice.random() < 0.3:
        spec["pacing"]["callsPerSecond"] = dice.choice(("0.2", "0.5", "1"))
    if dice.random() < 0.75:
        spec["schedule"] = _schedule(dice)
    return spec


def _schedule(dice: Random) -> dict[str, Any]:
    hours = dice.sample(HOURS, dice.choice((1, 1, 2)))
    days = list(_WEEK) if dice.random() < 0.8 else dice.sample(_WEEK, 5)
    windows = [{"days": days, "from": start, "to": end} for start, end in hours]
    return {"zone": dice.choice(("Callee", "Callee", "Campaign")), "windows": windows}


def _limits(dice: Random, contacts: int) -> dict[str, str]:
    """Limits of which some bind: a call costs some cents, its worst case up to nine."""
    whole = contacts * dice.choice((0.01, 0.03, 0.2, 1.0))
    limits = {"total": f"{whole:.2f}"}
    if dice.random() < 0.6:
        limits["daily"] = f"{max(0.2, whole * dice.choice((0.3, 0.6))):.2f}"
    if dice.random() < 0.2:
        limits["perCall"] = "0.05"
    if dice.random() < 0.3:
        limits["monthly"] = f"{max(0.3, whole * 0.8):.2f}"
    return {key: value for key, value in limits.items() if float(value) <= float(limits["total"]) or key == "total"}


def _budgets(dice: Random, zone: str, contacts: int) -> dict[str, dict[str, Any]]:
    """A namespace's Budget, or none: then the installation's account covers every call."""
    if dice.random() < 0.3:
        return {}
    limits = {key: value for key, value in _limits(dice, contacts).items() if key != "perCall"}
    return {"all": {"timeZone": dice.choice((zone, "UTC")), "scope": "Namespace", "limits": limits}}


def _carrier(dice: Random, contacts: int) -> Carrier:
    fast = max(1.0, contacts / 2_500)
    return Carrier(
        calls_per_second=dice.choice((1.0, 1.0, 5.0)) * fast,
        max_concurrent=dice.choice((5, 10, 20)) * int(fast),
        answered=dice.choice((0.4, 0.6, 0.8)),
        busy=0.15,
        failed=dice.choice((0.0, 0.03)),
        longest_s=dice.choice((60, 150, 400)),
        lost_callbacks=dice.choice((0.0, 0.0, 0.02, 0.2)),
        late_callbacks=dice.choice((0.0, 0.05, 0.3)),
        late_durations=dice.choice((0.0, 0.05)),
        refused=dice.choice((0.0, 0.0, 0.03)),
        unanswered=dice.choice((0.0, 0.01, 0.03)),
    )


def _faults(dice: Random, contacts: int) -> Faults:
    if dice.random() < 0.1:
        return Faults(*([0] * 13))  # a quiet day
    return Faults(
        restarts=dice.choice((0, 2, 10)),
        rivals=dice.choice((0, 1, 4)),
        lost_pods=dice.choice((0, 2, 10)),
        outages=dice.choice((0, 0, 2)),
        stale_views=dice.choice((0, 3, 20)),
        opt_outs=contacts // dice.choice((20, 100)),
        cancels=contacts // dice.choice((20, 100)),
        limits=dice.choice((0, 3, 12)),
        suspensions=dice.choice((0, 1, 4)),
        deletions=dice.choice((0, 0, 0, 1)),
        hurries=dice.choice((0, 2)),
        models=dice.choice((0, 1)),
        windows=dice.choice((0, 2, 6)),
    )
