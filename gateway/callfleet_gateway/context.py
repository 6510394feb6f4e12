"""What the routes share, and the store's part that the gateway may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from callfleet_core.dialing import AttemptView, EndEvidence, PlacedResult
from callfleet_gateway.carriers import CarrierChecks, ReadAccounts, no_accounts
from callfleet_gateway.metrics import Metrics
from callfleet_gateway.security import CarrierCheck
from callfleet_gateway.settings import GatewaySettings


class Attempts(Protocol):
    """What the gateway may do with an attempt: read it and give evidence; `DialStore` is the real one."""

    async def attempt_view(self, attempt_id: UUID) -> AttemptView | None:
        """The attempt, or None."""

    async def record_placed(self, attempt_id: UUID, call_sid: str) -> PlacedResult:
        """The carrier has a call for it."""

    async def record_answered(self, attempt_id: UUID, at: datetime, *, call_sid: str) -> bool:
        """The person picked up."""

    async def record_ended(self, attempt_id: UUID, evidence: EndEvidence) -> bool:
        """The call ended."""


Check = Callable[[], Awaitable[None]]


@dataclass
class Gateway:
    """One app's parts; `draining` refuses new media legs and readiness.

    `begun` is set once PostgreSQL and Redis have both answered.
    """

    settings: GatewaySettings
    store: Attempts
    redis: Redis
    check_database: Check
    read_accounts: ReadAccounts = no_accounts
    metrics: Metrics = field(default_factory=Metrics)
    legs: int = 0
    draining: bool = False
    begun: bool = False
    carriers: CarrierChecks = field(init=False)

    def __post_init__(self) -> None:
        token = self.settings.twilio_auth_token.get_secret_value()
        own = CarrierCheck(token, self.settings.callfleet_public_url)
        self.carriers = CarrierChecks(self.settings.twilio_account_sid, own, self.read_accounts)


def gateway_of(connection: HTTPConnection) -> Gateway:
    """The parts behind the app that serves this connection."""
    gateway: Gateway = connection.app.state.gateway
    return gateway
