"""One operator process, in the world's loop: the real engine, between a client that faults come through and watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only
from tests.chaos.api.client import ModelClient
from tests.chaos.api.face import Api
from tests.chaos.api.server import Change
from tests.chaos.plans.faults import Faults
from tests.chaos.plans.streams import Stream

from callfleet_core.db.engine import create_engine
from callfleet_operator.engine import Engine
from callfleet_operator.kube import Kube
from callfleet_operator.lease import Lease
from callfleet_operator.outside import Outside
from callfleet_operator.settings import OperatorSettings

WATCHED = ("Campaign", "CallSession", "Budget", "Pod")
# The one that leads at the beginning; faults of watches are its.
FIRST = "first"
WATCH_DELAY_S = 0.005
# As long as Kubernetes leaves a pod to end.
STOP_S = 30.0

# Whose task it is: what a process began dies with it.
OWNER: ContextVar[RunningOperator | None] = ContextVar("OWNER", default=None)


def task_factory(loop: asyncio.AbstractEventLoop, what: Any, **options: Any) -> asyncio.Task[Any]:
    """Makes a task, and notes whose it is."""
    task = asyncio.Task(what, loop=loop, **options)
    context = options.get("context")
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)
    return task


class LoopLease(Lease):
    """A Lease that stands in the world's loop instead of a thread of its own."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._standing: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """False once it has ended."""
        return self._standing is not None and not self._standing.done()

    def start(self, on_taken: Callable[[], None], on_lost: Callable[[], None], on_standby: Callable[[], None]) -> None:
        """Begins to stand."""
        self._standing = asyncio.create_task(self.stand(on_taken, on_lost, on_standby))

    async def stop(self) -> None:
        """Lets another lead."""
        self._stopping.set()
        if self._standing is not None:
            await asyncio.gather(self._standing, return_exceptions=True)


@dataclass
class RunningOperator:
    """A process; `identity` is its pod's."""

    identity: str
    api: Api
    faults: Faults
    settings: OperatorSettings
    outside: Outside
    on_ended: Callable[[RunningOperator], None]
    tasks: set[asyncio.Task[Any]] = field(default_factory=set, repr=False)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    # Its first lists are old ones.
    sees_old: bool = False
    dead: bool = False
    engine: Engine | None = None
    _connections: list[Any] = field(default_factory=list, repr=False)
    _databases: list[AsyncEngine] = field(default_factory=list, repr=False)
    _streams: dict[str, Stream] = field(default_factory=dict, repr=False)

    def __hash__(self) -> int:
        return id(self)

    def begin(self) -> None:
        """Starts the process."""
        self.thawed.set()
        token = OWNER.set(self)
        try:
            asyncio.get_running_loop().create_task(self._run(), name=f"operator {self.identity}")
        finally:
            OWNER.reset(token)

    async def _run(self) -> None:
        """As main.py has it: the engine first, then kopf lists and watches each kind."""
        engine = Engine(self.settings, self._deposed, self.outside_of_it())
        self.engine = engine
        try:
            await engine.start()
        except Exception:  # noqa: BLE001  # a process that cannot start ends, and its pod starts it again
            self._deposed()
            return
        self.api.on_change.append(self._changed)
        async with asyncio.TaskGroup() as group:
            for kind in WATCHED:
                stream = self._streams[kind] = Stream(kind, self.api, self.faults, counted=self.identity == FIRST)
                stream.list_anew(stale=self.sees_old)
                group.create_task(self._watch(engine, kind))

    def _changed(self, change: Change) -> None:
        for stream in self._streams.values():
            stream.offer(change)

    async def _watch(self, engine: Engine, kind: str) -> None:
        while True:
            what, body = await self._streams[kind].events.get()
            await asyncio.sleep(WATCH_DELAY_S)
            await self.thawed.wait()
            await engine.on_event(kind, what, body)

    def _deposed(self) -> None:
        """The process was told to end: so it does, at once, and Kubernetes starts it again."""
        self.end()
        self.on_ended(self)

    async def stop(self) -> None:
        """As when it is told to go: what its cleanup does, and the end."""
        engine = self.engine
        if engine is not None:
            token = OWNER.set(self)
            stopping = asyncio.get_running_loop().create_task(engine.stop())
            OWNER.reset(token)
            await asyncio.wait([stopping], timeout=STOP_S)
        self.end()

    def end(self) -> None:
        """As by kill -9: nothing is said, nothing is finished, the connections are gone."""
        self.dead = True
        if self._changed in self.api.on_change:
            self.api.on_change.remove(self._changed)
        loop = asyncio.get_running_loop()
        for connection in self._connections:
            pgconn = connection.pgconn
            if pgconn.status == 0:  # open
                loop.remove_reader(pgconn.socket)
                loop.remove_writer(pgconn.socket)
                pgconn.finish()
        for task in list(self.tasks):
            task.cancel()

    def outside_of_it(self) -> Outside:
        """The world, through the faults."""
        base = self.outside
        return Outside(
            connect=self._connect, database=self._open, carrier=base.carrier, models=base.models, lease=LoopLease,
            now=base.now,
        )  # fmt: skip

    async def _connect(self) -> Kube:
        return Kube(FaultyClient(self.api, self))

    def _open(self, settings: OperatorSettings) -> AsyncEngine:
        engine = create_engine(settings.database_url.get_secret_value(), application=f"operator-{self.identity}")
        self._databases.append(engine)
        _listen(engine, self)
        return engine

    def opened(self, connection: Any) -> None:
        """A new connection to PostgreSQL."""
        self._connections.append(connection)


class FaultyClient(ModelClient):
    """The model's client, as one operator has it."""

    def __init__(self, model: Api, operator: RunningOperator) -> None:
        super().__init__(model)
        self._operator = operator

    async def call_api(  # type: ignore[override]  # the package leaves its own untyped
        self, path: str, method: str, *, query_params: Sequence[tuple[str, str]] = (), body: Any = None, **more: Any
    ) -> Any:
        """One call, with whatever befalls it."""
        operator = self._operator
        await operator.thawed.wait()
        label = f"{method} {path}"

        async def ask() -> object:
            return await super(FaultyClient, self).call_api(path, method, query_params=query_params, body=body, **more)

        async def ask_or_fail() -> object:
            return await operator.faults.request(label, ask)

        if method == "GET" or (method == "PUT" and "/leases/" in path):
            answer = await ask_or_fail()
        else:
            index = await operator.faults.before(operator, label)
            await operator.thawed.wait()
            answer = await ask_or_fail()
            await operator.faults.after(operator, index)
        await operator.thawed.wait()
        return answer


def _listen(engine: AsyncEngine, operator: RunningOperator) -> None:
    """Commits are external writes; a frozen process begins nothing."""
    dialect = engine.sync_engine.dialect
    commit = dialect.do_commit
    said: dict[int, str] = {}

    def opened(adapted: Any, _record: Any) -> None:
        operator.opened(adapted.driver_connection)

    def taken(*_: Any) -> None:
        if not operator.thawed.is_set():
            await_only(operator.thawed.wait())

    def asked(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        driver = connection.connection.driver_connection
        said[id(driver)] = " ".join(statement.split())[:80]
        if driver.autocommit:  # one statement is one transaction
            connection.info["write"] = await_only(operator.faults.before(operator, said[id(driver)]))

    def answered(connection: Any, *_: Any) -> None:
        if connection.connection.driver_connection.autocommit:
            await_only(operator.faults.after(operator, connection.info["write"]))

    def committed(adapted: Any) -> None:
        if not _wrote(adapted):
            commit(adapted)
            return
        index = await_only(operator.faults.before(operator, said.get(id(adapted.driver_connection), "?")))
        commit(adapted)
        await_only(operator.faults.after(operator, index))

    event.listen(engine.sync_engine, "connect", opened)
    event.listen(engine.sync_engine, "checkout", taken)
    event.listen(engine.sync_engine, "before_cursor_execute", asked)
    event.listen(engine.sync_engine, "after_cursor_execute", answered)
    dialect.do_commit = committed  # type: ignore[method-assign,assignment]  # its event comes before the commit only


def _wrote(adapted: Any) -> bool:
    cursor = adapted.cursor()
    cursor.execute("SELECT pg_current_xact_id_if_assigned()::text")
    found = cursor.fetchone()[0]
    cursor.close()
    return found is not None
