"""What an engine reaches outside of itself, and the clock that it goes by: the real ones, unless a test has others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from callfleet_core.carriers import CarrierAccount
from callfleet_core.db.engine import create_engine
from callfleet_operator.carrier import Carrier
from callfleet_operator.context import utc_now
from callfleet_operator.kube import Kube
from callfleet_operator.lease import Lease
from callfleet_operator.models import Models
from callfleet_operator.settings import OperatorSettings


def _database(settings: OperatorSettings) -> AsyncEngine:
    return create_engine(settings.database_url.get_secret_value(), application="callfleet-operator")


def _models(settings: OperatorSettings, changed: Callable[[str], None]) -> Models:
    return Models(settings.ollama_urls, settings.ollama_key, changed)


@dataclass(frozen=True)
class Outside:
    """The API server, PostgreSQL, a carrier's account, the model servers, the Lease, and the time."""

    connect: Callable[[], Awaitable[Kube]] = Kube.connect
    database: Callable[[OperatorSettings], AsyncEngine] = _database
    carrier: Callable[[CarrierAccount], Carrier] = Carrier
    models: Callable[[OperatorSettings, Callable[[str], None]], Models] = _models
    lease: type[Lease] = Lease
    now: Callable[[], datetime] = utc_now
