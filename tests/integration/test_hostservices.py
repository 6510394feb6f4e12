"""Where a PostgreSQL of our own keeps its data."""

from __future__ import annotations

import importlib
from pathlib import Path

import psycopg
import pytest

from callfleet.hostservices import DURABLE, PostgresServer, postgres

MODULE = importlib.import_module("callfleet.hostservices.postgres")  # the function has the same name


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for the one in memory, with room enough; a PostgreSQL of the system is needed for it."""
    if MODULE.find_binaries() is None:
        pytest.skip("the system has no PostgreSQL, and nothing may be run from memory")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the server runs as another user
    monkeypatch.setattr(MODULE, "MEMORY", tmp_path)
    monkeypatch.setattr(MODULE, "MEMORY_BYTES", 1)
    return tmp_path


def _folder_of(server: PostgresServer) -> Path:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def test_data_that_need_not_last_is_in_memory_and_gone_at_the_end(memory: Path) -> None:
    with postgres() as server:
        assert _folder_of(server).is_relative_to(memory)
    assert list(memory.iterdir()) == []


def test_data_that_must_last_is_on_the_disk(memory: Path) -> None:
    with postgres(settings=DURABLE) as server:
        assert not _folder_of(server).is_relative_to(memory)


def test_too_little_memory_is_left_alone(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "MEMORY_BYTES", 2**60)
    with postgres() as server:
        assert not _folder_of(server).is_relative_to(memory)
