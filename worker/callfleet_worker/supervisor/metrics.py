"""The worker's Prometheus metrics (M1 of docs/requirements.md)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATION_BUCKETS_S = (5, 15, 30, 60, 90, 120, 180, 300, 600, 1800)


class WorkerMetrics:
    """A registry of its own, so that tests may have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls_total", "Attempts by how they ended here.", ["status"], registry=self.registry)
        self.duration = Histogram(
            "call_duration_seconds", "From answer to hang-up.", buckets=DURATION_BUCKETS_S, registry=self.registry
        )
        self.active = Gauge("active_calls", "Attempts that are dialled or live.", registry=self.registry)
        self.idle = Gauge("worker_idle_processes", "Call processes ready for an attempt.", registry=self.registry)
        self.slots = Gauge("worker_slots", "Calls that this pod may have at a time.", registry=self.registry)
        self.processor = Gauge(
            "worker_processor_ratio",
            "Of the cores that this pod may use, by all its processes.",
            registry=self.registry,
        )
        self.memory = Gauge("worker_memory_ratio", "Of the memory that this pod may use.", registry=self.registry)
        self.restarts = Gauge("worker_speech_restarts", "Speech restarts.", ["service"], registry=self.registry)
        self.turn_latency = Gauge("worker_turn_latency_ms", "Median of the last call's turns.", registry=self.registry)
