"""Runs the migrations: `python -m callfleet_core.db.migrate [upgrade REV | downgrade REV | wait]`, on DATABASE_URL."""

from __future__ import annotations

import sys
import time
from importlib import resources
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError

from callfleet_core.db.engine import CONNECT_TIMEOUT_S, LOCK_TIMEOUT_MS, database_url
from callfleet_core.errors import SchemaError
from callfleet_core.logs import configure
from callfleet_core.settings import DatabaseSettings

# One migration at a time on a database, whichever pod runs it.
_MIGRATION_LOCK = 0x0CA11F1EE7
WAIT_FOR_SCHEMA_S = 300
OTHER_MIGRATOR_S = 60
_POLL_S = 1.0

_log = structlog.get_logger(__name__)


def migrations_folder() -> Path:
    """The folder with the migrations: shipped inside the package, or beside it in a checkout.

    Raises SchemaError where neither exists.
    """
    packaged = Path(str(resources.files("callfleet_core"))) / "_alembic"
    checkout = Path(__file__).resolve().parents[3] / "alembic"
    for folder in (packaged, checkout):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaError("the migrations are not installed: reinstall CallFleet, or run from its checkout")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The newest revision that this version knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise SchemaError("no migration is installed: reinstall CallFleet")
    return head


def revisions() -> list[str]:
    """Every revision that this version knows, newest first."""
    return [item.revision for item in ScriptDirectory.from_config(_config()).walk_revisions()]


def migrate(url: str, target: str = "head", *, down: bool = False, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> None:
    """Brings the database at `url` to `target`, one migrator at a time, in one transaction a revision.

    A revision that builds an index beside its table's writers (db/indexes) is several. Raises SchemaError where another
    migrator does not end, and OperationalError where somebody's locks do not: what is done stays, and it can be run
    again.
    """
    # A migration that cannot have its locks gives up, so that nobody queues behind it; the job tries again.
    options = f"-c lock_timeout={lock_timeout_ms} -c timezone=UTC"
    engine = create_engine(database_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options})
    try:
        with engine.connect() as connection:
            _take_turn(connection)
            (command.downgrade if down else command.upgrade)(_config(connection), target)
    finally:
        engine.dispose()


def _take_turn(connection: Connection) -> None:
    """Takes the migrators' lock, which ends with the connection. Raises SchemaError where another one keeps it.

    It is asked for again and again instead of waited for: a statement that waits has a snapshot, for which an index
    that the other migrator builds would wait in its turn.
    """
    deadline = time.monotonic() + OTHER_MIGRATOR_S
    while True:
        taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _MIGRATION_LOCK}).scalar_one()
        connection.commit()
        if taken:
            return
        if time.monotonic() > deadline:
            raise SchemaError("another migration is running: when it has ended, run this one again")
        time.sleep(_POLL_S)


def current_revision(url: str) -> str | None:
    """The revision that the database at `url` is at, or None for an empty one."""
    engine = create_engine(database_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def wait_for_schema(url: str, timeout_s: float = WAIT_FOR_SCHEMA_S) -> None:
    """Waits until the database is there and at this version's revision; pods start behind it.

    Raises SchemaError after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    seen = "not reachable"
    while time.monotonic() < deadline:
        try:
            seen = f"at revision {current_revision(url)}"
            if seen == f"at revision {head_revision()}":
                return
        except OperationalError:
            seen = "not reachable"
        time.sleep(_POLL_S)
    raise SchemaError(
        f"after {timeout_s:.0f} s the database is {seen}, not at {head_revision()}: run the migrations job"
    )


def main(arguments: list[str]) -> int:
    """The command line of this module; returns the exit status."""
    configure("migrations")
    url = DatabaseSettings().database_url.get_secret_value()
    match arguments or ["upgrade", "head"]:
        case ["upgrade", target]:
            migrate(url, target)
        case ["downgrade", target]:
            migrate(url, target, down=True)
        case ["wait"]:
            wait_for_schema(url)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    _log.info("schema ready", revision=current_revision(url))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
