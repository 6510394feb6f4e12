"""Where a PostgreSQL of our own keeps its data."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from callfleet.hostservices import DURABLE, PostgresServer, postgres

MODULE = importlib.import_module("callfleet.hostservices.postgres")  # the function has the same name


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that passes for the one in memory, with room enough; a PostgreSQL of the system is needed for it."""
    if MODULE.find_binaries() is None:
        pytest.skip("the system has no PostgreSQL, and nothing may be run from memory")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server runs as another user
        monkeypatch.setattr(MODULE, "MEMORY", Path(folder))
        monkeypatch.setattr(MODULE, "MEMORY_BYTES", 1)
        yield Path(folder)


def _folder_of(server: PostgresServer) -> Path:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def test_data_that_need_not_last_is_in_memory_and_gone_at_the_end(memory: Path) -> None:
    with postgres() as server:
        assert _folder_of(server).is_relative_to(memory)
    deadline = time.monotonic() + 10
    while list(memory.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)  # the server's guard removes it
    assert list(memory.iterdir()) == []


def test_data_that_must_last_is_on_the_disk(memory: Path) -> None:
    with postgres(settings=DURABLE) as server:
        assert not _folder_of(server).is_relative_to(memory)


def test_too_little_memory_is_left_alone(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "MEMORY_BYTES", 2**60)
    with postgres() as server:
        assert not _folder_of(server).is_relative_to(memory)
