"""A database that was taken back to an earlier state: nobody is called again, no limit is passed, all is listed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.books import POD
from tests.integration.own_postgres import OwnPostgres, own_postgres
from tests.integration.restored import HOLD_MICROS, World, open_world
from tests.integration.simulator_application import until

from callfleet_core.db.engine import create_engine
from callfleet_core.db.migrate import migrate
from callfleet_core.ledger import HoldResult
from callfleet_core.recovery import RecoveryDesk
from callfleet_operator.engine import Engine


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as postgres:
        migrate(postgres.url)
        yield postgres


@asynccontextmanager
async def engine_of(postgres: OwnPostgres) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(postgres.url)
    yield engine
    await engine.dispose()


class Lost:
    """What happened before the backup, and after it."""

    @staticmethod
    async def before(world: World) -> None:
        """Person 0 was called, person 1 is about to be."""
        await world.called(0)
        await world.granted(1)
        await world.beat()

    @staticmethod
    async def after(world: World) -> None:
        """The limit was raised and spent: 1 and 2 were called, 3 too, whose session is gone; 4 is being talked to."""
        await world.beat()
        world.raise_limit("0.22")
        await world.put_in_force()
        granted = await world.books.sql("SELECT id FROM dial_attempts WHERE state = 'granted'")
        await world.dialled(1, granted)
        await world.called(2)
        await world.called(3, named=False)
        await world.called(4, status="in-progress")
        await world.called(5, status="busy", named=False)
        await world.beat()

    @staticmethod
    async def is_put_right(world: World) -> None:
        """Closed; booked; the limit of now in force; nobody called again; open."""
        assert await world.holds() == dict.fromkeys(range(8), HoldResult.STOPPED)
        granted = await world.books.sql("SELECT id FROM dial_attempts WHERE state = 'granted'")
        assert "rebuilt" in (await world.read_lists() or "")
        assert await world.books.sql("SELECT state FROM dial_attempts WHERE id = :id", id=granted) == "ended"
        await world.settle()
        assert await world.holds() == dict.fromkeys(range(8), HoldResult.STOPPED)
        assert "rebuilt" in (await world.read_lists(30) or "")  # too early to read them again
        assert await world.read_lists(61) is None
        assert await world.books.unbalanced() == 0
        assert await world.books.budget() == (HOLD_MICROS, 4 * HOLD_MICROS)
        assert await world.books.ledger.overspent_accounts() == []
        assert await world.holds() == {
            **dict.fromkeys(range(6), HoldResult.CLOSED),
            6: HoldResult.HELD,  # 0.18 of 0.22 were gone
            7: HoldResult.BUDGET_HELD,
        }
        assert await world.books.ledger.overspent_accounts() == []
        found = [(item.kind.value, item.expected, item.found) for item in await world.lost()]
        assert sorted(found) == [
            ("Lost", "", "busy, 0 s, closed in 1 run(s)"),
            ("Lost", "", "completed, 70 s"),
            ("Lost", "", "completed, 70 s, closed in 1 run(s)"),
            ("Lost", "", "in-progress, 0 s"),
            ("Lost", "granted", "completed, 70 s"),
        ]


async def test_a_volume_that_was_taken_back(postgres: OwnPostgres, server: ApiServer) -> None:
    async with engine_of(postgres) as engine, open_world(engine, server) as world:
        await Lost.before(world)
        await engine.dispose()
        postgres.stop()
        postgres.copy("backup")
        postgres.start()
        await Lost.after(world)
        await engine.dispose()
        postgres.stop()
        postgres.start("backup")
        async with engine_of(postgres) as restored, world.reopened(restored) as back:
            status = await RecoveryDesk(restored).status()
            assert (status.is_another, "its witness" in (status.recovery_reason or "")) == (False, True)
            await Lost.is_put_right(back)


async def test_a_standby_that_was_promoted(postgres: OwnPostgres, server: ApiServer) -> None:
    async with engine_of(postgres) as engine, open_world(engine, server) as world:
        await Lost.before(world)
        postgres.base_backup("standby")
        await Lost.after(world)
        await engine.dispose()
        postgres.stop()
        postgres.start("standby")
        postgres.promote()
        async with engine_of(postgres) as promoted:
            assert (await RecoveryDesk(promoted).status()).is_another
            async with world.reopened(promoted) as back:
                status = await RecoveryDesk(promoted).status()
                assert "timeline" in (status.recovery_reason or "")
                await Lost.is_put_right(back)


async def test_a_dump_in_a_new_database_opens_by_itself(
    postgres: OwnPostgres, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(server.kubeconfig))
    async with engine_of(postgres) as engine, open_world(engine, server) as world:
        await Lost.before(world)
        postgres.dump()
        await Lost.after(world)
        await engine.dispose()
        restored = create_engine(postgres.restore_dump("restored"))
        settings = world.operator.context.settings.model_copy(
            update={"database_url": SecretStr(postgres.url.replace("/postgres", "/restored")),
                    "callfleet_recovery_pass_s": 1.0, "callfleet_carrier_simulated": True}
        )  # fmt: skip
        back = world.with_database(restored)
        granted = await back.books.sql("SELECT id FROM dial_attempts WHERE state = 'granted'")
        # The database itself refuses, before any operator has looked.
        assert (await back.books.dialing.begin_dial(granted, POD, uuid4())).reason == "Stopped"
        leader = Engine(settings, on_deposed=lambda: None)
        await leader.start()
        try:
            await until(lambda: back.summary().startswith("Stopped: the database was restored"), timeout_s=20)
            assert REGISTRY.get_sample_value("callfleet_ledger_recovering") == 1
            await until(lambda: not back.summary().startswith("Stopped: the database"), timeout_s=40)
        finally:
            await leader.stop()
        assert REGISTRY.get_sample_value("callfleet_ledger_recovering") == 0
        assert await back.books.budget() == (HOLD_MICROS, 4 * HOLD_MICROS)
        assert await back.books.unbalanced() == 0
        await back.books.ledger.take_epoch()
        assert sorted((await back.holds()).values()) == sorted(
            [HoldResult.CLOSED] * 6 + [HoldResult.HELD, HoldResult.BUDGET_HELD]
        )
        assert await back.books.ledger.overspent_accounts() == []
        audited = "SELECT array_agg(action ORDER BY id) FROM audit_log"
        assert await back.books.sql(audited) == ["recovery.close", "recovery.open"]
        await restored.dispose()
