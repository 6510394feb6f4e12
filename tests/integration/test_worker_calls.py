"""Whole calls: the real worker process, ledger, gateway, carrier simulator, Whisper and Piper; a person who talks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.worker_parts import speech_processes, stage
from tests.unit.agents.scripts import real_estate

from callfleet.hostservices import RedisServer
from callfleet_simulator.people import Behaviour, Person
from callfleet_worker.agents.state import CallState
from callfleet_worker.call.leg import CONVERSATION_TTL_S, STATE

pytestmark = pytest.mark.speech

SCRIPT = real_estate().model_dump(mode="json", by_alias=True)
WILLING = [
    ("home this year", "Yes, I am."),
    ("townhouse", "A condo, I think."),
    ("parking", "Yes, please."),
    ("price range", "About four hundred thousand dollars."),
    ("like to move", "In the next three months."),
    ("decision", "Yes, I will."),
    ("goodbye", ""),
]


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The person's own ears and voice, apart from the worker's."""
    with speech_processes(tmp_path_factory.mktemp("person")) as paths:
        yield paths


async def test_a_willing_person_is_called_understood_and_recorded(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, sockets: tuple[Path, Path]
) -> None:
    person = Person(name="Willing", ring_s=1.0)
    async with stage(engine, database_url, redis_server.url, person, {"lines": WILLING}, sockets) as on:
        attempt = await on.granted(SCRIPT)
        code, events = await on.run_worker(attempt)
        assert code == 0
        assert [event["event"] for event in events] == ["dialing", "placed", "answered", "ended"], events
        lead = (await on.rows("SELECT * FROM lead_scores"))[0]
        assert lead["fields"]["interested"] == "yes", (on.talkers[0].heard, on.talkers[0].said)
        assert lead["fields"]["property"] == "condo"
        assert lead["fields"]["budget"] == "400000"
        assert lead["interest_level"] == "high"
        assert events[-1]["outcome"]["disposition"] == "qualified"
        assert events[-1]["outcome"]["decided_by"]["grammar"] >= 5
        assert events[-1]["outcome"]["latency_ms_p50"] > 0
        turns = await on.rows("SELECT * FROM conversations ORDER BY seq")
        assert [turn["seq"] for turn in turns] == list(range(len(turns)))
        assert {turn["message_type"] for turn in turns} == {"user", "assistant"}
        attempts = await on.rows("SELECT state, end_status, call_sid FROM dial_attempts")
        assert attempts[0]["state"] == "ended"
        assert attempts[0]["end_status"] == "completed"


async def test_a_busy_line_ends_the_attempt_without_a_conversation(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer
) -> None:
    person = Person(name="Busy", behaviour=Behaviour.BUSY, ring_s=0.5)
    async with stage(engine, database_url, redis_server.url, person) as on:
        attempt = await on.granted(SCRIPT)
        code, events = await on.run_worker(attempt)
        assert code == 0
        assert events[-1]["end"] == "unanswered"
        assert (await on.rows("SELECT end_status FROM dial_attempts"))[0]["end_status"] == "busy"
        assert await on.rows("SELECT * FROM conversations") == []


async def test_somebody_who_hangs_up_half_way_leaves_what_they_said(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, sockets: tuple[Path, Path]
) -> None:
    talker = {"lines": WILLING, "hang_up_after": 3}
    async with stage(engine, database_url, redis_server.url, Person(name="Short", ring_s=0.5), talker, sockets) as on:
        attempt = await on.granted(SCRIPT)
        code, events = await on.run_worker(attempt)
        assert code == 0
        assert events[-1]["outcome"]["disposition"] == "incomplete"
        lead = (await on.rows("SELECT fields FROM lead_scores"))[0]
        assert lead["fields"] == {"interested": "yes", "property": "condo"}
        assert "condo" in (await on.said("user"))[-1].lower()
        row = (await on.rows("SELECT disposition, turns FROM calls"))[0]
        assert (row["disposition"], row["turns"]) == ("incomplete", 2)
        async with Redis.from_url(redis_server.url) as redis:
            stored, ttl_s = await redis.get(f"conversation:{attempt}"), await redis.ttl(f"conversation:{attempt}")
        assert 0 < ttl_s <= CONVERSATION_TTL_S
        assert isinstance(stored, bytes)
        assert b"condo" not in stored.lower()
        state = CallState.model_validate_json((await on.books.key()).decrypt(STATE, stored))
        assert "condo" in state.answers["property"].evidence.lower()


@pytest.mark.parametrize(
    ("wish", "heard"), [("Please don't call me again.", "call me again"), ("Please stop calling me.", "calling me")]
)
async def test_who_wants_no_more_calls_and_hangs_up_in_the_same_moment_has_opted_out(
    engine: AsyncEngine,
    database_url: str,
    redis_server: RedisServer,
    sockets: tuple[Path, Path],
    wish: str,
    heard: str,
) -> None:
    talker = {"lines": [WILLING[0], ("townhouse", wish)], "last_words": wish}
    async with stage(engine, database_url, redis_server.url, Person(name="Curt", ring_s=0.5), talker, sockets) as on:
        attempt = await on.granted(SCRIPT)
        code, events = await on.run_worker(attempt)
        assert code == 0
        assert events[-1]["outcome"]["disposition"] == "optedOut", await on.said("user")
        assert (await on.rows("SELECT disposition FROM calls"))[0]["disposition"] == "optedOut"
        assert heard in (await on.said("user"))[-1].lower()


async def test_the_time_limit_is_kept_with_a_goodbye(
    engine: AsyncEngine, database_url: str, redis_server: RedisServer, sockets: tuple[Path, Path]
) -> None:
    talker: dict[str, Any] = {"lines": [], "greeting": None}
    async with stage(engine, database_url, redis_server.url, Person(name="Mute", ring_s=0.5), talker, sockets) as on:
        attempt = await on.granted(SCRIPT, time_limit_s=25)
        _, events = await on.run_worker(attempt)
        assert events[-1]["outcome"]["disposition"] == "incomplete"
        assert (await on.said("assistant"))[-1] == "Thank you, that is all. Goodbye."
        row = (await on.rows("SELECT end_status, duration_s FROM dial_attempts"))[0]
        assert row["end_status"] == "completed"
        assert row["duration_s"] < 25
