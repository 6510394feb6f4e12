"""The operator's Prometheus metrics (M1 of docs/requirements.md)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from callfleet_core.money import MICROS_PER_UNIT

CALLS = Counter("calls_total", "Calls that ended, by their session's final state.", ["status"])
DURATION = Histogram(
    "call_duration_seconds", "How long answered calls lasted.", buckets=(5, 15, 30, 60, 120, 180, 300, 600, 1200, 3600)
)
LEADING = Gauge("callfleet_operator_leading", "1 for the operator that leads, 0 for one that stands by.")
ACTIVE = Gauge("active_calls", "Attempts that are dialing or live.")
COST = Histogram(
    "cost_per_call_dollars", "What settled calls cost.", buckets=(0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
)
UNPARTITIONED = Gauge("callfleet_calls_unpartitioned", "Calls outside of any year's partition; 0 when all is well.")
DIFFERENCES = Counter(
    "callfleet_carrier_differences_total", "What the carrier's list has otherwise than the ledger.", ["kind"]
)
UNCOMPARED = Gauge("callfleet_carrier_days_failing", "Days of carrier accounts that could not be compared; 0 is well.")
RECOVERING = Gauge("callfleet_ledger_recovering", "1 while nobody is called since the database was restored, else 0.")
ADMISSIONS = Counter("callfleet_admissions_total", "What became of requests to hold.", ["result"])
CYCLE_SECONDS = Histogram("callfleet_admission_cycle_seconds", "How long an admission cycle took.")


def record_finished(state: str, duration_s: int | None, cost_micros: int | None) -> None:
    """Counts a finished call."""
    CALLS.labels(status=state).inc()
    if duration_s:
        DURATION.observe(duration_s)
    if cost_micros is not None:
        COST.observe(cost_micros / MICROS_PER_UNIT)
