"""One attempt's protocol in the call process: real ledger, real gateway and carrier, no speech needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import NAMESPACE, POD, RING, register_carrier
from tests.integration.simulator_application import TOKEN, until
from tests.integration.test_worker_carrier import answers, reply
from tests.integration.worker_parts import Stage, stage
from tests.unit.agents.scripts import real_estate

from callfleet.hostservices import RedisServer
from callfleet_core.dialing import DialDecision, DialStore
from callfleet_core.records import CallRecords
from callfleet_simulator.people import Behaviour, Person
from callfleet_worker.call import runner as runner_module
from callfleet_worker.call.leg import LegRegistry
from callfleet_worker.call.runner import CallEnd, CallRunner, Services
from callfleet_worker.settings import WorkerSettings
from callfleet_worker.speech.clients import Recogniser, Speaker

SCRIPT = real_estate().model_dump(mode="json", by_alias=True)
NOBODY = Person(name="Rings", behaviour=Behaviour.NO_ANSWER, ring_s=30.0)


@dataclass
class Desk:
    """A call process's inside: what it reported, and the runner that the test drives."""

    on: Stage
    redis: Redis
    services: Services
    reports: list[str] = field(default_factory=list)

    def runner(self, attempt: UUID, pod: str = POD) -> CallRunner:
        return CallRunner(self.services, attempt, pod, lambda event, _details: self.reports.append(event))

    async def run(self, attempt: UUID, pod: str = POD) -> CallEnd:
        return await self.runner(attempt, pod).run()

    async def row(self, attempt: UUID) -> dict[str, Any]:
        return (await self.on.rows("SELECT * FROM dial_attempts WHERE id = :id", id=attempt))[0]

    async def carrier_at(self, url: str, calls_per_second: float = 1_000) -> None:
        """Sends the next calls to another carrier."""
        await register_carrier(self.on.books.engine, api_base_url=url, calls_per_second=calls_per_second)


@asynccontextmanager
async def at_desk(
    engine: AsyncEngine, database_url: str, redis_url: str, folder: Path, person: Person = NOBODY
) -> AsyncIterator[Desk]:
    async with stage(engine, database_url, redis_url, person) as on:
        redis = Redis.from_url(redis_url, decode_responses=True)
        settings = WorkerSettings.model_validate(
            {
                "database_url": database_url,
                "redis_url": redis_url,
                "twilio_auth_token": TOKEN,
                "callfleet_namespace_keys": RING.of_namespace(NAMESPACE).text(),
            }
        )
        silence = folder / "nobody-speaks"
        services = Services(
            settings,
            DialStore(engine, RING.of_namespace(NAMESPACE)),
            CallRecords(engine),
            LegRegistry(redis),
            Recogniser(silence),
            Speaker(silence),
        )
        yield Desk(on, redis, services)
        await redis.aclose()


@pytest.fixture
async def desk(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[Desk]:
    async with at_desk(engine, database_url, redis_server.url, tmp_path) as made:
        yield made


async def test_another_pods_attempt_is_refused_and_stays_granted(desk: Desk) -> None:
    attempt = await desk.on.granted(SCRIPT)
    end = await desk.run(attempt, pod="1b2a0000-0000-4000-8000-00000000beef")
    assert (end.end, end.reason) == ("refused", "WrongPod")
    assert (await desk.row(attempt))["state"] == "granted"
    assert desk.reports == []


async def test_a_revoked_attempt_is_never_dialled(desk: Desk) -> None:
    attempt = await desk.on.granted(SCRIPT)
    await desk.on.books.sql("SELECT ledger_release(:id, 'Canceled')", id=attempt)
    end = await desk.run(attempt)
    assert (end.end, end.reason) == ("refused", "Revoked")
    assert desk.on.carrier.carrier.calls.live() == 0


async def test_wait_is_obeyed_until_the_carriers_pace_allows_the_call(desk: Desk) -> None:
    async with answers(reply("400 Bad Request", b'{"code": 21211, "message": "no", "status": 400}')) as (url, _):
        await desk.carrier_at(url, calls_per_second=2.0)
        first, second = await desk.on.granted(SCRIPT), await desk.on.granted(SCRIPT, contact=1)
        started = asyncio.get_running_loop().time()
        await desk.run(first)
        end = await desk.run(second)
    assert end.end == "notPlaced"
    assert asyncio.get_running_loop().time() - started >= 0.5


async def test_a_refusing_carrier_ends_the_attempt_as_not_placed(desk: Desk) -> None:
    async with answers(reply("429 Too Many Requests", b'{"code": 20429, "message": "slow", "status": 429}')) as (
        url,
        _,
    ):
        await desk.carrier_at(url)
        attempt = await desk.on.granted(SCRIPT)
        end = await desk.run(attempt)
    assert (end.end, end.reason) == ("notPlaced", "20429")
    row = await desk.row(attempt)
    assert (row["state"], row["end_status"]) == ("ended", "notPlaced")
    assert await desk.redis.exists(f"leg:{attempt}") == 0


async def test_an_unknown_dial_records_nothing_and_keeps_listening(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "VIEW_POLL_S", 0.1)
    async with answers(reply("502 Bad Gateway", b"{}")) as (url, seen):
        await desk.carrier_at(url)
        attempt = await desk.on.granted(SCRIPT)
        running = asyncio.create_task(desk.run(attempt))
        await until(lambda: bool(seen))
        await asyncio.sleep(1.0)
        assert not running.done()
        assert (await desk.row(attempt))["state"] == "dialing"
        assert await desk.redis.exists(f"leg:{attempt}") == 1
        assert await desk.redis.ttl(f"leg:{attempt}") > 120
        await desk.on.books.ended(attempt, "failed", None)
        assert (await asyncio.wait_for(running, 10)).end == "unanswered"
    assert len(seen) == 1


class Overtaken(DialStore):
    """The real store, in a world where another call for the attempt is recorded as soon as the dial begins."""

    async def begin_dial(self, attempt_id: UUID, pod_uid: str, nonce: UUID) -> DialDecision:
        decision = await super().begin_dial(attempt_id, pod_uid, nonce)
        await self.record_placed(attempt_id, "CA" + "9" * 32)
        return decision


async def test_a_call_with_a_second_sid_is_hung_up(desk: Desk, engine: AsyncEngine) -> None:
    attempt = await desk.on.granted(SCRIPT)
    runner = CallRunner(
        replace(desk.services, dials=Overtaken(engine, RING.of_namespace(NAMESPACE))),
        attempt,
        POD,
        lambda event, _details: desk.reports.append(event),
    )
    end = await runner.run()
    assert end.end == "superseded"
    assert end.call_sid is not None
    assert desk.on.carrier.carrier.find(end.call_sid).ended
    assert (await desk.row(attempt))["call_sid"] == "CA" + "9" * 32


async def test_no_answer_is_learnt_from_the_ledger_and_nothing_is_recorded(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    nobody = Person(name="Out", behaviour=Behaviour.NO_ANSWER, ring_s=1.0)
    async with at_desk(engine, database_url, redis_server.url, tmp_path, nobody) as desk:
        attempt = await desk.on.granted(SCRIPT, ring_timeout_s=5)
        end = await desk.run(attempt)
        assert end.end == "unanswered"
        assert desk.reports == ["dialing", "placed"]
        assert (await desk.row(attempt))["end_status"] == "no-answer"
        async with desk.on.books.engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM conversations"))).scalar_one() == 0


async def test_a_stopped_process_stops_waiting_and_hangs_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "VIEW_POLL_S", 0.1)
    attempt = await desk.on.granted(SCRIPT)
    runner = desk.runner(attempt)
    running = asyncio.create_task(runner.run())
    await until(lambda: "placed" in desk.reports)
    runner.stop()
    end = await asyncio.wait_for(running, 15)
    assert end.end == "unanswered"
    assert end.call_sid is not None
    assert desk.on.carrier.carrier.find(end.call_sid).ended


class Flaky(DialStore):
    """The real store behind a connection that breaks: before some statements, or after they were committed."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine, RING.of_namespace(NAMESPACE))
        self.breaks = ["before", "after", "before"]

    async def _call(self, sql: str, read: Callable[[Any], Any] | None = None, **parameters: Any) -> Any:
        kind = self.breaks.pop(0) if self.breaks else ""
        if kind == "before":
            raise OperationalError(sql, {}, ConnectionError("broken"))
        answer = await super()._call(sql, read, **parameters)
        if kind == "after":
            raise OperationalError(sql, {}, ConnectionError("broken"))
        return answer


async def test_a_broken_database_connection_dials_once_all_the_same(desk: Desk, engine: AsyncEngine) -> None:
    attempt = await desk.on.granted(SCRIPT)
    runner = CallRunner(
        replace(desk.services, dials=Flaky(engine)), attempt, POD, lambda event, _details: desk.reports.append(event)
    )
    running = asyncio.create_task(runner.run())
    await until(lambda: "placed" in desk.reports)
    assert desk.on.carrier.carrier.calls.live() == 1
    assert (await desk.row(attempt))["state"] == "placed"
    runner.stop()
    assert (await asyncio.wait_for(running, 20)).end == "unanswered"
