"""A slice of `make fuzz`: specs that somebody might apply come into force, or are refused with a word of the field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.fuzz.cases import BASES, Case, changed, generate, load_schema, walk
from tests.fuzz.fuzz_specs import judge_all, judging
from tests.integration.apiserver import ApiServer

from callfleet_operator.store import Store

SEED, SPECS = 1, 60


pytestmark = pytest.mark.usefixtures("prepared")


async def test_generated_specs_come_into_force_or_are_refused(engine: AsyncEngine, server: ApiServer) -> None:
    async with judging(engine, server) as judge:
        wrong, rejected = [], 0
        async for case, how, verdict in judge_all(judge, generate(SPECS, SEED), SEED):
            wrong += [f"{case.kind} {how} {case.fields} ({case.what}): {said}" for said in verdict.wrong]
            rejected += verdict.rejected
        assert wrong == []
        assert 0 < rejected < SPECS


FOUND: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("a list is no moment", ("contacts", "inline", 0, "consent", "time"), []),
    ("nor is a year that no clock has", ("contacts", "inline", 0, "consent", "time"), "9999-12-31T23:59:59-12:00"),
    ("nor is an end of calling", ("schedule", "notAfter"), []),
    ("no clock is a day off", ("schedule", "notAfter"), "2026-12-31T00:00:00+24:00"),
    ("nor two thirds of a day", ("contacts", "inline", 0, "consent", "time"), "2026-01-01T00:00:00-16:00"),
    ("Mars has no time zone", ("timeZone",), "Mars/Olympus"),
    ("nobody lives there", ("contacts", "inline", 0, "timeZone"), "Mars/Olympus"),
    ("PostgreSQL's JSON holds no NUL", ("agent", "opening"), "Hello\u0000."),
    ("nor does a prompt", ("agent", "persona"), "You are\u0007 Robin."),
    ("nor a model's name", ("agent", "llm", "model"), "smol\nlm2"),
    ("a taint's value is a label's", ("worker", "tolerations", 0, "value"), "a\u0000b"),
    ("an image has no blanks", ("worker", "image"), " worker:1 "),
    ("more is requested than allowed", ("worker", "resources", "requests", "memory"), "9999Ti"),
    ("GPUs are requested as they are limited", ("worker", "resources", "requests", "nvidia.com/gpu"), 2),
]


@pytest.mark.parametrize(("path", "value"), [item[1:] for item in FOUND], ids=[item[0] for item in FOUND])
async def test_what_once_got_through_is_refused_at_the_door(
    engine: AsyncEngine, server: ApiServer, path: tuple[str | int, ...], value: Any
) -> None:
    field = str(path[-1])
    case = Case("Campaign", "found", (f"spec.{field}",), changed(BASES["Campaign"], path, value), {})
    async with judging(engine, server) as judge:
        verdict = await judge.judge(case, "created")
    assert (verdict.rejected, verdict.wrong) == (True, [])


async def test_the_base_is_served_to_the_last_step(engine: AsyncEngine, server: ApiServer) -> None:
    """What is judged is deep only if a base's person gets a held, bound call."""
    async with judging(engine, server) as judge:
        verdict = await judge.judge(Case("Campaign", "as it is", (), BASES["Campaign"], {}), "changed")
        assert (verdict.rejected, verdict.wrong) == (False, [])
        assert await _attempts(engine) > 0


async def _attempts(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM dial_attempts"))).scalar_one())


def test_a_position_that_is_no_number_is_none() -> None:
    """Somebody's annotation on one session once ended every admission cycle."""
    store = Store()
    meta = {"namespace": "sales", "name": "s", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = {"campaign": "spring", "contactID": "0192f0c4-0000-7000-8000-000000000002"}
    for version, (written, position) in enumerate((("7", 7), ("²", 0), ("-1", 0), ("9" * 5000, 0), ("", 0)), 1):
        changed_meta = {"resourceVersion": str(version), "annotations": {"callfleet.dev/position": written}}
        body = {"metadata": {**meta, **changed_meta}, "spec": spec}
        store.apply("CallSession", body)
        assert [item.position for item in store.sessions()] == [position]


def test_every_field_of_every_kind_is_changed() -> None:
    for kind, base in BASES.items():
        schema = load_schema(kind)
        reached = {".".join(str(step) for step in path if isinstance(step, str)) for path, *_ in walk(schema, base)}
        assert set(_fields(schema)) - reached <= NOT_IN_THE_BASE, kind


def test_moments_are_what_moments_are_changed_to() -> None:
    tried = {
        ".".join(str(step) for step in path if isinstance(step, str))
        for path, what, _ in walk(load_schema("Campaign"), BASES["Campaign"])
        if what.endswith("a moment")
    }
    assert tried == {"contacts.inline.consent.time", "schedule.notAfter"}


# Below fields that the base does not have; `OTHERS` has them, or they are added whole.
NOT_IN_THE_BASE = {
    f"contacts.{source}.{name}" for source in ("configMapRef", "secretRef", "listRef") for name in ("name", "key")
} | {"carrierRef.name", "worker.resources.requests.nvidia.com/gpu"}


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, below in schema.get("properties", {}).items():
        at = f"{path}.{name}".lstrip(".")
        yield at
        yield from _fields(below.get("items", below), at)
