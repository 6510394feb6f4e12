"""A PostgreSQL that can be stopped, killed and started again, and its synchronous standby; gone with its owner."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import psycopg

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.postgres import (
    DURABLE,
    USER,
    answers,
    make_data_folder,
    postgres_program,
    programs,
)
from callfleet.hostservices.process import (
    LOOPBACK,
    Service,
    free_port,
    new_password,
    private_folder,
    running,
    service_user,
)

DATABASE: Final = "postgres"
STANDBY: Final = "standby"
MAX_CONNECTIONS: Final = 80
_START_S: Final = 60.0
_SETTINGS: Final = (
    *DURABLE, "unix_socket_directories=", f"listen_addresses={LOOPBACK}", f"max_connections={MAX_CONNECTIONS}",
    "log_timezone=UTC", "timezone=UTC", "wal_retrieve_retry_interval=500ms", "restart_after_crash=on",
    # Each message of the log begins with its SQLSTATE, by which a fault shows that it happened.
    "logging_collector=on", "log_filename=server.log", "log_rotation_age=0", "log_rotation_size=0",
    "log_line_prefix=%e ",
)  # fmt: skip


@dataclass
class Server:
    """One server on the data folder `home`/data, with `env` around it.

    `within`: the command that runs it in another place, where its data folder is; `seen_at` is that folder from here.
    """

    name: str
    home: Path
    programs: Path
    user: str | None
    password: str
    settings: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()
    seen_at: Path | None = None
    port: int = field(default_factory=lambda: free_port([LOOPBACK]))
    _running: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Its owner's address."""
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """Its data folder, as it is seen from here."""
        return self.seen_at or self.home / "data"

    def is_alive(self) -> bool:
        """Whether it takes connections."""
        return answers(self.url)

    def start(self) -> None:
        """Starts it, and waits until it answers. Raises HostServiceError."""
        options = [*_SETTINGS, f"port={self.port}", f"log_directory={self.home / 'log'}", *self.settings]
        argv = [*self.within, str(self.programs / "postgres"), "-D", str(self.home / "data")]
        argv += [word for option in options for word in ("-c", option)]
        user = None if self.within else self.user
        # An immediate shutdown: all of these are thrown away, and most faults want nothing to be tidied up.
        service = Service(f"faults-{self.name}", argv, env=self.env, user=user, stop_signal=signal.SIGQUIT)
        self._running.enter_context(running(service, lambda: answers(self.url), _START_S))

    def stop(self) -> None:
        """Stops it at once; it recovers from its log when it is started again."""
        self._running.close()

    def shut_down(self) -> None:
        """Stops it in good order, so that its folder can be copied."""
        self._postmaster().send_signal(signal.SIGINT)
        psutil.wait_procs([self._postmaster()], timeout=_START_S)
        self._running.close()

    def kill(self) -> None:
        """Ends all its processes by SIGKILL."""
        postmaster = self._postmaster()
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._running.close()

    def _postmaster(self) -> psutil.Process:
        pid = (self.data / "postmaster.pid").read_text().splitlines()[0]
        return psutil.Process(int(pid))

    def execute(self, *statements: str) -> None:
        """Runs statements as the owner, each by itself."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def states(self) -> Counter[str]:
        """How often the log has each SQLSTATE."""
        path = self.home / "log" / "server.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return Counter(line[:5] for line in lines if line[5:6] == " ")


@dataclass(frozen=True)
class Pair:
    """A primary and its standby, without which nothing is committed."""

    primary: Server
    standby: Server


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Where servers live: the service user's, and removed at the end."""
    home = private_folder("faults", service_user("postgres", "nobody"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def new_server(home: Path, name: str) -> Server:
    """A server with an empty cluster, not started."""
    user, password = service_user("postgres", "nobody"), new_password()
    place = _place(home, name, user)
    binaries = programs(home, user)
    make_data_folder(binaries, place, user, password)
    with (place / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host replication all samehost scram-sha-256\n")
    return Server(name, place, binaries, user, password)


def copied(server: Server, home: Path, name: str, *, env: Mapping[str, str]) -> Server:
    """Another server with the data of one that was shut down."""
    place = _place(home, name, server.user)
    subprocess.run(["cp", "-a", str(server.home / "data"), str(place)], check=True, timeout=60)
    return Server(name, place, server.programs, server.user, server.password, env=env)


@contextlib.contextmanager
def pair(primary: Server) -> Iterator[Pair]:
    """Starts the primary, and a synchronous standby made from it."""
    place = _place(primary.home.parent, STANDBY, primary.user)
    standby = Server(STANDBY, place, primary.programs, primary.user, primary.password)
    with ExitStack() as stack:
        stack.callback(primary.stop)
        primary.start()
        _base_backup(primary, standby)
        stack.callback(standby.stop)
        standby.start()
        primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'", "SELECT pg_reload_conf()")
        _wait_until_synchronous(primary)
        yield Pair(primary, standby)


def _base_backup(primary: Server, standby: Server) -> None:
    where = f"postgresql://{USER}@{LOOPBACK}:{primary.port}/?application_name={STANDBY}"
    data = standby.home / "data"
    # Fast, and without a sync: of this copy nothing has to outlive a power cut.
    options = ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
    argv = [str(postgres_program("pg_basebackup")), "-d", where, "-D", str(data), *options]
    done = subprocess.run(
        argv, user=primary.user, group=primary.user, extra_groups=None if primary.user is None else [], cwd="/",
        env={"PGPASSWORD": primary.password}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise HostServiceError(f"pg_basebackup failed: {done.stderr.strip()[-500:]}")


@contextlib.contextmanager
def small_disk(primary: Server, size_mib: int) -> Iterator[Server]:
    """Starts the server with its data on a disk of its own, which goes with its holder. Only root can do that."""
    if primary.user is None:
        raise HostServiceError("a disk that can be filled is mounted by root only: run this as root")
    data, mark = primary.home / "data", primary.home / "disk"
    script = f"cp -a {data} {data}.whole && mount -t tmpfs -o size={size_mib}m,mode=0700 tmpfs {data}" \
        f" && cp -aT {data}.whole {data} && rm -r {data}.whole && echo $$ >{mark} && exec sleep infinity"  # fmt: skip
    holder = Service("faults-disk", ["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
    with running(holder, lambda: mark.exists() and bool(mark.read_text()), _START_S), ExitStack() as stack:
        pid = mark.read_text().strip()
        primary.within = [
            "nsenter", f"--mount=/proc/{pid}/ns/mnt", "setpriv", f"--reuid={primary.user}", f"--regid={primary.user}",
            "--clear-groups", "--pdeathsig=KILL",
        ]  # fmt: skip
        primary.seen_at = Path(f"/proc/{pid}/root{data}")
        stack.callback(primary.stop)
        primary.start()
        yield primary


def _wait_until_synchronous(primary: Server) -> None:
    deadline = time.monotonic() + _START_S
    query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
    while time.monotonic() < deadline:
        with psycopg.connect(primary.url, autocommit=True, connect_timeout=5) as connection:
            if connection.execute(query).fetchone():
                return
        time.sleep(0.1)
    raise HostServiceError("the standby did not become synchronous: see its log")


def _place(home: Path, name: str, user: str | None) -> Path:
    place = home / name
    for each in (place, place / "log"):
        each.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(each, user, user)
    return place
