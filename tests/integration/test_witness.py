"""The witness outside of PostgreSQL: which database is trusted, and which one closes admission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.apiserver import ApiServer
from tests.integration.operator_parts import Operator, operator
from tests.integration.restored import MERGE, open_world

from callfleet_core.errors import StaleEpochError
from callfleet_core.ledger import HoldResult, Ledger
from callfleet_core.recovery import DatabaseReplacedError
from callfleet_operator.reconcile import admission, recovery, witness

PATH = f"/api/v1/namespaces/default/configmaps/{witness.NAME}"


@pytest.fixture
async def leader(engine: AsyncEngine, server: ApiServer) -> AsyncIterator[Operator]:
    async with operator(engine, server) as leader:
        await witness.begin(leader.context)
        yield leader


async def is_closed(leader: Operator) -> bool:
    return (await leader.context.recovery.state()).recovering_since is not None


async def begin_again(leader: Operator) -> None:
    leader.context.trust.tokens = frozenset()
    await leader.context.ledger.take_epoch()
    await witness.begin(leader.context)


def kept(server: ApiServer) -> dict[str, str]:
    data: dict[str, str] = server.request("GET", PATH)["data"]
    return data


async def test_a_new_database_is_trusted_and_stays_so_over_restarts(leader: Operator, server: ApiServer) -> None:
    assert not await is_closed(leader)
    tokens = set()
    for _ in range(3):
        await begin_again(leader)
        await witness.compare(leader.context)
        tokens.add(kept(server)["witness"])
    assert (len(tokens), await is_closed(leader)) == (3, False)
    assert kept(server)["epoch"] == str(leader.context.ledger.epoch)


async def test_a_witness_that_could_not_be_written_lags_by_one_beat_and_catches_up(
    leader: Operator, server: ApiServer
) -> None:
    known, new = UUID(kept(server)["witness"]), uuid4()
    await leader.context.recovery.beat(known, new)
    await begin_again(leader)
    assert (await is_closed(leader), kept(server)["witness"]) == (False, str(new))


@pytest.mark.parametrize("change", [{"data": {"witness": str(uuid4())}}, None])
async def test_another_token_or_none_closes_admission_under_an_epoch_above_all_known(
    leader: Operator, server: ApiServer, change: dict[str, Any] | None
) -> None:
    if change is None:
        server.request("DELETE", PATH)
    else:
        server.request("PATCH", PATH, {"data": {**change["data"], "epoch": "70"}}, MERGE)
    with pytest.raises(DatabaseReplacedError):
        await recovery.reconcile(leader.context)
    await begin_again(leader)
    assert await is_closed(leader)
    assert leader.context.ledger.epoch > (70 if change else 0)
    await begin_again(leader)  # the close is not repeated, the witness is right again
    assert await Audit.of(leader) == ["recovery.close"]


class Audit:
    @staticmethod
    async def of(leader: Operator) -> list[str]:
        async with leader.context.engine.connect() as connection:
            rows = await connection.exec_driver_sql("SELECT action FROM audit_log ORDER BY id")
            return list(rows.scalars())


async def test_an_empty_database_where_one_was_known_is_rebuilt_since_it_was_known(
    leader: Operator, server: ApiServer
) -> None:
    since = datetime.fromisoformat(kept(server)["since"])
    async with leader.context.engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE installation SET witness = NULL, previous_witness = NULL, trusted_identity = NULL,"
            " trusted_at = NULL"
        )
    await begin_again(leader)
    assert (await leader.context.recovery.state()).recovering_from == since - timedelta(minutes=1)


async def test_what_another_installation_left_in_the_namespace_says_nothing(
    leader: Operator, server: ApiServer
) -> None:
    server.request("PATCH", PATH, {"data": {"installation": "x", "witness": str(uuid4())}}, MERGE)
    async with leader.context.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE installation SET witness = NULL, trusted_identity = NULL")
    await begin_again(leader)
    assert not await is_closed(leader)


async def test_an_operator_that_no_longer_leads_gives_no_token(leader: Operator, server: ApiServer) -> None:
    before = kept(server)
    await Ledger(leader.context.engine).take_epoch()
    with pytest.raises(StaleEpochError):
        await witness.compare(leader.context)
    assert kept(server) == before


async def test_a_database_that_changes_while_the_operator_runs_admits_nobody(
    engine: AsyncEngine, server: ApiServer
) -> None:
    async with open_world(engine, server) as world:
        await admission.reconcile(world.operator.context)
        await world.books.sql("UPDATE installation SET witness = gen_random_uuid()")
        with pytest.raises(DatabaseReplacedError):
            await admission.reconcile(world.operator.context)


async def test_a_database_that_was_not_compared_lately_is_compared_before_anything_is_held(
    engine: AsyncEngine, server: ApiServer
) -> None:
    async with open_world(engine, server) as world:
        server.request("PATCH", PATH, {"data": {"witness": str(uuid4())}}, MERGE)
        await admission.reconcile(world.operator.context)  # compared a moment ago
        world.operator.context.now = lambda: datetime.now(UTC) + timedelta(seconds=31)
        with pytest.raises(DatabaseReplacedError):
            await admission.reconcile(world.operator.context)


async def test_another_identity_closes_the_database_itself_whoever_asks(engine: AsyncEngine, server: ApiServer) -> None:
    async with open_world(engine, server) as world:
        await world.books.sql("UPDATE installation SET trusted_identity = '1/00000001/1'")
        assert (await world.books.hold(0)).result is HoldResult.STOPPED
        async with world.reopened(engine) as back:
            assert "Stopped" in (back.operator.context.trust.recovering or "")
