"""Sessions that wait, and what an admission of them depends on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from callfleet_operator.plan.admission import AccountView, CampaignView, PendingSession, Slot, Snapshot
from callfleet_operator.plan.turns import Share

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
POOL = ("sales", "pool-1")
HOLD = 36_000
CARRIER = "AC" + "0" * 32


def session(index: int, campaign: str = "spring", **changes: object) -> PendingSession:
    base = PendingSession(
        key=("sales", f"{campaign}-{index}"),
        campaign=("sales", campaign),
        pool=POOL,
        priority=0,
        position=index,
        created=NOW,
        currency="USD",
        time_limit_s=300,
        hold_micros=HOLD,
        ceiling_micros=None,
        accounts=("budget",),
        budgets_found=True,
        carrier=CARRIER,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # test data by field name


def snapshot(*sessions: PendingSession, slots: int = 100, limit: int | None = 220_000, held: int = 0, spent: int = 0,
             concurrent: int = 100, open_attempts: int = 0, suspended: bool = False) -> Snapshot:  # fmt: skip
    view = CampaignView(suspended, concurrent, Share(10, open_attempts))
    return Snapshot(
        pending=sessions,
        campaigns={item.campaign: view for item in sessions},
        accounts={"budget": AccountView("USD", limit, held, spent)},
        slots=[Slot(POOL, f"pod-{index}", f"uid-{index}") for index in range(slots)],
        carrier_room={CARRIER: 1000},
    )
