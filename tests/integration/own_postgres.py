"""A PostgreSQL whose data folder a test may copy, take back and promote; each data folder is one server at a time."""

from __future__ import annotations

import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from callfleet.hostservices.postgres import postgres_program
from callfleet.hostservices.process import (
    LOOPBACK,
    Service,
    free_port,
    new_password,
    private_folder,
    running,
    service_user,
)

USER = "callfleet"
SETTINGS = ("wal_level=replica", "max_wal_senders=4", "fsync=off", "timezone=UTC", "unix_socket_directories=")


@dataclass
class OwnPostgres:
    """A server on loopback over one of the folders in `home`."""

    home: Path
    user: str | None
    password: str
    port: int
    data: str = "data"
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/postgres"

    def run(self, *command: str, password: bool = False) -> str:
        """One of PostgreSQL's programs, as the server's user; its output."""
        group = self.user and pwd.getpwnam(self.user).pw_gid
        environment = {"PGPASSWORD": self.password} if password else {}
        done = subprocess.run(
            command, user=self.user, group=group, extra_groups=None if self.user is None else [], cwd="/",
            env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, data: str | None = None) -> None:
        """Starts over a folder, by default over the last one."""
        self.data = data or self.data
        argv = [str(postgres_program("postgres")), "-D", str(self.home / self.data)]
        argv += [word for option in (f"port={self.port}", f"listen_addresses={LOOPBACK}", *SETTINGS)
                 for word in ("-c", option)]  # fmt: skip
        service = Service("postgres-own", argv, user=self.user, stop_signal=signal.SIGINT)
        self._running.enter_context(running(service, self._answers, 60))

    def stop(self) -> None:
        """Ends it as an administrator does."""
        self._running.close()

    def copy(self, name: str) -> None:
        """A copy of the stopped server's folder: what a snapshot of its volume is."""
        self.run("cp", "-a", str(self.home / self.data), str(self.home / name))

    def base_backup(self, name: str) -> None:
        """A base backup of the running server that will be a standby."""
        self.run(
            str(postgres_program("pg_basebackup")), "-D", str(self.home / name), "-d",
            self.url, "-R", "--checkpoint=fast", "-X", "stream", password=True,
        )  # fmt: skip

    def dump(self) -> None:
        """What pg_dump keeps of the database."""
        program = str(postgres_program("pg_dump"))
        self.run(program, "-Fc", "-f", str(self.home / "dump"), "-d", self.url, password=True)

    def restore_dump(self, database: str) -> str:
        """The dump in a new database of this server; its address."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        url = self.url.removesuffix("/postgres") + f"/{database}"
        self.run(str(postgres_program("pg_restore")), "-d", url, str(self.home / "dump"), password=True)
        return url

    def promote(self) -> None:
        """Makes the standby a primary."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_promote(true, 60)").fetchone()
        assert row == (True,)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """A running server, gone at the end with all its folders."""
    user = service_user("postgres", "nobody")
    home = private_folder("postgres", user)
    server = OwnPostgres(home, user, new_password(), free_port([LOOPBACK]))
    secret = home / "password"
    secret.write_text(server.password)
    try:
        server.run(
            str(postgres_program("initdb")), "-D", str(home / "data"), "-U", USER, "--pwfile", str(secret),
            "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
