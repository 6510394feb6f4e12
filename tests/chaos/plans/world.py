"""A world for one plan: an API server in memory, a real PostgreSQL, operators, workers, a carrier, one clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from tests.chaos.api.face import Api
from tests.chaos.api.server import ApiModel, Body, Change, RefusalError
from tests.chaos.plans.carrier import PretendCarrier, PretendClient
from tests.chaos.plans.cluster import Cluster, Gateway
from tests.chaos.plans.database import Clock
from tests.chaos.plans.ending import Ending, ending
from tests.chaos.plans.faults import Faults
from tests.chaos.plans.models import PretendModels, PretendServer
from tests.chaos.plans.operators import RunningOperator
from tests.integration.books import ACCOUNT_SID, KEY, RING

from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore
from callfleet_operator.outside import Outside
from callfleet_operator.settings import OperatorSettings

RELEASE, NAMESPACE = "default", "sales"
GROUP = "/apis/callfleet.dev/v1alpha1/namespaces"
# A container starts again; a process that stood still goes on.
RESTART_S, AWAY_S, FROZEN_S = 1.0, 20.0, 25.0
LOOK_S = 1.0
IDLE_S = 20


@dataclass
class World:
    """Everything there is. Times are the virtual clock's."""

    url: str
    clock: Clock
    faults: Faults
    talk_s: float = 12.0
    models: PretendServer = field(default_factory=PretendServer)
    # The model, unless another is given.
    given: Api | None = None
    api: Api = field(init=False)
    engine: AsyncEngine = field(init=False)
    carrier: PretendCarrier = field(init=False)
    cluster: Cluster = field(init=False)
    operators: dict[str, RunningOperator] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    _over: bool = False

    def __post_init__(self) -> None:
        now = self.clock.now
        self.api = self.given or ApiModel(clock=now)
        self.engine = create_engine(self.url, application="chaos-world")
        gateway = Gateway(DialStore(self.engine), now)
        self.carrier = PretendCarrier(now, gateway.answered, gateway.ended, self.talk_s)
        self.cluster = Cluster(
            self.api, lambda namespace: DialStore(self.engine, RING.of_namespace(namespace)), self.carrier, now
        )
        self.faults.kill, self.faults.freeze = self.kill, self.freeze

    def begin(self, *identities: str) -> None:
        """The installation and its operators."""
        self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name in ("callfleet-worker", "callfleet-installation-carrier"):
            self.api.request("POST", f"/api/v1/namespaces/{RELEASE}/secrets", {"metadata": {"name": name}, "data": {}})
        self.cluster.start()
        self.api.on_change.append(self._note)
        for identity in identities:
            self.start(identity)

    def start(self, identity: str, *, sees_old: bool = False) -> None:
        """An operator's process."""
        if self._over:
            return
        operator = RunningOperator(
            identity, self.api, self.faults, self._settings(identity), self._outside(), self._restart,
            sees_old=sees_old,
        )  # fmt: skip
        self.operators[identity] = operator
        operator.begin()

    def _note(self, change: Change) -> None:
        self.faults.versions.append((asyncio.get_running_loop().time(), change.version))

    def _restart(self, operator: RunningOperator) -> None:
        self.ended.append(operator.identity)
        asyncio.get_running_loop().call_later(RESTART_S, self.start, operator.identity)

    async def stop(self, identity: str) -> None:
        """SIGTERM: it lets another lead; its pod starts it again."""
        operator = self.operators[identity]
        if not operator.dead:
            await operator.stop()
            self._restart(operator)

    def kill(self, operator: RunningOperator) -> None:
        """kill -9; its pod starts it again."""
        operator.end()
        self.ended.append(operator.identity)
        kind = self.faults.fault.kind if self.faults.fault else ""
        after_s = AWAY_S if kind == "leave" else RESTART_S
        asyncio.get_running_loop().call_later(after_s, lambda: self.start(operator.identity, sees_old=kind == "stale"))

    def freeze(self, operator: RunningOperator) -> None:
        """It stands still for a while, and does not know it."""
        operator.thawed.clear()
        asyncio.get_running_loop().call_later(FROZEN_S, operator.thawed.set)

    async def end(self) -> None:
        """Ends everything."""
        self._over = True
        for operator in self.operators.values():
            operator.end()
        self.cluster.stop()
        self.carrier.stop()
        await asyncio.sleep(0.1)
        await self.engine.dispose()

    async def ending(self) -> Ending:
        """How it stands."""
        return await ending(self.api, self.engine)

    async def until(self, look: Callable[[], bool], within_s: float = 300.0) -> None:
        """Waits for what somebody sees. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not look():  # noqa: ASYNC110 - the world has no event for it
                await asyncio.sleep(LOOK_S)

    def apply(self, plural: str, body: Body) -> Body:
        """What a user creates."""
        return self.api.request("POST", f"{GROUP}/{NAMESPACE}/{plural}", body)

    def change(self, plural: str, name: str, spec: dict[str, Any]) -> Body:
        """What a user changes."""
        return self.api.request("PATCH", f"{GROUP}/{NAMESPACE}/{plural}/{name}", {"spec": spec})

    def get(self, plural: str, name: str) -> Body | None:
        """An object, or None."""
        with suppress(RefusalError):
            return self.api.request("GET", f"{GROUP}/{NAMESPACE}/{plural}/{name}")
        return None

    def delete(self, plural: str, name: str) -> None:
        """What a user deletes."""
        self.api.request("DELETE", f"{GROUP}/{NAMESPACE}/{plural}/{name}")

    def _settings(self, identity: str) -> OperatorSettings:
        values: dict[str, Any] = {
            "database_url": self.url, "twilio_account_sid": ACCOUNT_SID, "twilio_auth_token": "made-up",
            "callfleet_public_url": "http://127.0.0.1:8", "callfleet_carrier_api_base_url": "http://127.0.0.1:9",
            "callfleet_carrier_simulated": True, "callfleet_hash_key": KEY.decode(),
            "callfleet_encryption_keys": RING.text(), "callfleet_namespace": RELEASE,
            "callfleet_worker_image": "worker", "callfleet_worker_idle_seconds": IDLE_S, "callfleet_identity": identity,
        }  # fmt: skip
        return OperatorSettings(**values)

    def _outside(self) -> Outside:
        return Outside(
            carrier=lambda account: PretendClient(self.carrier, account),
            models=lambda _, changed: PretendModels(self.models, changed),
            now=self.clock.now,
        )


Script = Callable[[World], Awaitable[None]]
