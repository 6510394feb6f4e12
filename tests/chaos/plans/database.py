"""A real PostgreSQL that goes by the world's clock: `clock_timestamp()` reads a file that the loop writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from callfleet.hostservices import fresh_database, postgres
from callfleet_core.db.migrate import migrate

# Found before the real one, by our functions and by our statements.
_CLOCK = """
CREATE SCHEMA virtual;
CREATE FUNCTION virtual.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_read_file({path})::timestamptz $$;
"""
_PATH = "virtual, pg_catalog, public"
_WITH_PATHS = "SELECT oid::regprocedure::text FROM pg_proc WHERE proconfig::text LIKE '%search_path%'" \
    " AND pronamespace = 'public'::regnamespace"  # fmt: skip
_WRITTEN = "%Y-%m-%d %H:%M:%S.%f+00"


class Clock:
    """The wall clock of everything in a world: the real time at its beginning, and the loop's time since."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.restart()

    def restart(self) -> None:
        """A new world begins now."""
        self._began, self._now = datetime.now(UTC), datetime.now(UTC)
        self.set(0.0)

    def set(self, elapsed_s: float) -> None:
        """So much later than the beginning."""
        self._now = self._began + timedelta(seconds=elapsed_s)
        os.pwrite(self._file, self._now.strftime(_WRITTEN).encode(), 0)  # always as long: never half an old time

    def now(self) -> datetime:
        """The time, in UTC."""
        return self._now

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


@dataclass(frozen=True)
class Databases:
    """A server with one migrated database to copy, and its clock."""

    server: str
    template: str
    clock: Clock

    @contextmanager
    def one(self) -> Iterator[str]:
        """The address of a new database, for the block."""
        with fresh_database(self.server, prefix="callfleet_plan", template=self.template) as url:
            yield url


@contextmanager
def databases() -> Iterator[Databases]:
    """A server of our own, for the block."""
    with tempfile.TemporaryDirectory(prefix="callfleet-clock-") as folder, postgres() as server:
        path = Path(folder) / "now"
        path.parent.chmod(0o755)
        clock = Clock(path)
        with fresh_database(server.url, prefix="callfleet_template") as url:
            migrate(url)
            with psycopg.connect(url, autocommit=True) as connection:
                _go_by(connection, path)
            yield Databases(server.url, url, clock)
        with suppress(OSError):
            clock.close()


def _go_by(connection: psycopg.Connection, path: Path) -> None:
    connection.execute(sql.SQL(_CLOCK).format(path=sql.Literal(str(path))))
    for (name,) in connection.execute(_WITH_PATHS).fetchall():
        connection.execute(f"ALTER FUNCTION {name} SET search_path = {_PATH}, pg_temp")
    connection.execute(f"ALTER ROLE CURRENT_USER SET search_path = {_PATH}")
