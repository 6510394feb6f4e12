"""The gateway's Prometheus metrics, in a registry of the app's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """Counters without any personal data in their labels; label values come from closed lists."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "callfleet_gateway"
        self.requests = Counter(
            f"{prefix}_requests", "HTTP requests answered.", ["route", "status"], registry=self.registry
        )
        self.signature_failures = Counter(
            f"{prefix}_signature_failures",
            "Requests refused for a missing or wrong carrier signature or token.",
            ["route"],
            registry=self.registry,
        )
        self.callbacks = Counter(
            f"{prefix}_callbacks",
            "Status callbacks accepted, by the carrier's status.",
            ["status"],
            registry=self.registry,
        )
        self.second_calls = Counter(
            f"{prefix}_second_calls",
            "Webhooks of a call whose attempt already has another call.",
            registry=self.registry,
        )
        self.cut_short = Counter(
            f"{prefix}_calls_cut_short",
            "Answered calls that were ended politely, for the part that stayed away.",
            ["part"],
            registry=self.registry,
        )
        self.parts = Gauge(
            f"{prefix}_part_answers", "1 while a part answers this gateway, else 0.", ["part"], registry=self.registry
        )
        self.legs = Gauge(f"{prefix}_media_legs", "Media legs relayed now.", registry=self.registry)
        self.legs_refused = Counter(
            f"{prefix}_media_legs_refused",
            "Media legs not relayed, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.media_bytes = Counter(
            f"{prefix}_media_bytes",
            "Characters of media messages relayed.",
            ["direction"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition format of all metrics."""
        return generate_latest(self.registry)
