"""Starts a service under its guard, waits until it answers, and ends it."""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from callfleet.hostservices.errors import HostServiceError, ServiceDiedError
from callfleet.parts.locks import file_lock
from callfleet.parts.paths import lock_path, log_home

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.05
STOP_GRACE_S = 10.0
PORT_TRIES = 20
LOOPBACK = "127.0.0.1"
OWNER_MARK = ".owner"
FOLDER_TIMEOUT_S = 30.0
_MARKS: list[IO[str]] = []


@dataclass(frozen=True)
class Service:
    """How to run one service. `user`: the account it runs as when we are root."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    remove: Path | None = None


def new_password() -> str:
    """A password that needs no quoting in a URL."""
    return secrets.token_urlsafe(24)


def service_user(*names: str) -> str | None:
    """The first existing account of `names` when we are root (some servers refuse root), else None."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in known), None)


def private_folder(prefix: str, user: str | None, place: Path | None = None) -> Path:
    """A temporary folder only `user` (or we) may enter; those of the same prefix whose makers have gone are removed.

    It is in `place`, or where temporary files go.
    """
    place = place or Path(tempfile.gettempdir())
    with file_lock(lock_path("private-folders"), FOLDER_TIMEOUT_S):
        _remove_orphans(place, f"callfleet-{prefix}-")
        path = Path(tempfile.mkdtemp(prefix=f"callfleet-{prefix}-", dir=place))
        # Locked for as long as this process lives: the kernel frees it, even after kill -9.
        mark = (path / OWNER_MARK).open("w")
        fcntl.flock(mark, fcntl.LOCK_EX)
        _MARKS.append(mark)
    if user is not None:
        shutil.chown(path, user)
    return path


def sweep(place: Path, prefix: str) -> None:
    """Removes private folders in `place` whose makers have gone."""
    with file_lock(lock_path("private-folders"), FOLDER_TIMEOUT_S):
        _remove_orphans(place, f"callfleet-{prefix}-")


def _remove_orphans(place: Path, prefix: str) -> None:
    for folder in place.glob(f"{prefix}*"):
        try:
            with (folder / OWNER_MARK).open("r") as mark:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError, PermissionError):
            continue  # not marked, in use, or another user's
        shutil.rmtree(folder, ignore_errors=True)


def free_port(hosts: Sequence[str]) -> int:
    """A TCP port that is free on every one of `hosts`. Raises HostServiceError."""
    for _ in range(PORT_TRIES):
        with socket.socket() as probe:
            probe.bind((hosts[0], 0))
            port = int(probe.getsockname()[1])
        if all(_is_free(host, port) for host in hosts[1:]):
            return port
    raise HostServiceError(f"no port is free on all of {', '.join(hosts)}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if not isinstance(error, PermissionError) and error.errno == 99:
                raise HostServiceError(f"{host} is not an address of this machine") from error
            return False
    return True


@contextmanager
def running(service: Service, ready: Callable[[], bool], timeout_s: float) -> Iterator[Path]:
    """Run `service` for the block, from when `ready()` is true; yields its log.

    Raises ServiceDiedError when it ends before it is ready, HostServiceError after `timeout_s`.
    """
    # One log an owner, so that two runs at once do not write over each other; kept only after a failure.
    log = log_home() / f"{service.name}-{os.getpid()}.log"
    process = _start(service, log)
    try:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if process.poll() is not None:
                raise ServiceDiedError(service.name, process.returncode, log)
            if time.monotonic() > deadline:
                raise HostServiceError(f"{service.name} did not answer in {timeout_s:.0f} s; its log is {log}")
            time.sleep(POLL_S)
        yield log
    except BaseException:
        _stop(process)
        raise
    _stop(process)
    log.unlink(missing_ok=True)


def _start(service: Service, log: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", str(GUARD), "--stop-signal", str(int(service.stop_signal))]
    argv += ["--grace-s", str(STOP_GRACE_S)]
    argv += ["--user", service.user] if service.user else []
    argv += ["--remove", str(service.remove)] if service.remove else []
    with log.open("wb") as out:
        return subprocess.Popen(
            [*argv, "--", *service.argv],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **service.env},
            cwd="/",
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(STOP_GRACE_S * 2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
