"""A Redis server of our own, behind a password, on addresses we choose, gone with its owner."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from callfleet.hostservices.errors import HostServiceError
from callfleet.hostservices.process import (
    LOOPBACK,
    Service,
    free_port,
    new_password,
    private_folder,
    running,
    service_user,
)
from callfleet.parts.debian import which

OLDEST_MAJOR = 7
START_TIMEOUT_S = 20.0
MAX_MEMORY = "512mb"


@dataclass(frozen=True)
class RedisServer:
    """A server's URL (`redis://:password@host:port/0`); `log` is None when it is not ours."""

    url: str
    log: Path | None

    def url_at(self, host: str) -> str:
        """The same server as seen through another of its addresses."""
        return re.sub(r"@[^:/]+", f"@{host}", self.url, count=1)


@contextmanager
def redis(listen_on: Sequence[str] = (LOOPBACK,), url: str | None = None) -> Iterator[RedisServer]:
    """Yield a Redis ≥ 7: the one at `url`, or our own on `listen_on`. Raises HostServiceError."""
    if url is not None:
        yield RedisServer(url, None)
        return
    program = _find_program()
    user = service_user("redis", "nobody")
    password, port = new_password(), free_port(listen_on)
    home = private_folder("redis", user)
    config = home / "redis.conf"
    config.touch(0o600)
    config.write_text(config_text(listen_on, port, password, home))
    if user is not None:
        shutil.chown(config, user)
    server = f"redis://:{password}@{listen_on[0]}:{port}/0"
    service = Service("redis", [str(program), str(config)], user=user, remove=home)
    with running(service, lambda: _answers(server), START_TIMEOUT_S) as log:
        yield RedisServer(server, log)


def config_text(listen_on: Sequence[str], port: int, password: str, home: Path) -> str:
    """Redis's configuration: nothing on disk, nothing without the password."""
    lines = [f"bind {' '.join(listen_on)}", f"port {port}", f"requirepass {password}", f"dir {home}"]
    lines += ["protected-mode yes", 'save ""', "appendonly no", f"maxmemory {MAX_MEMORY}", "daemonize no"]
    return "\n".join(lines) + "\n"


def _find_program() -> Path:
    program = which("redis-server")
    advice = "run `callfleet parts build debian`, or give a Redis URL"
    if program is None:
        raise HostServiceError(f"redis-server is not installed: {advice}")
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=10, check=True)
    version = re.search(r"v=(\d+)\.", done.stdout)
    if version is None or int(version.group(1)) < OLDEST_MAJOR:
        raise HostServiceError(f"{program} is older than Redis {OLDEST_MAJOR}: {advice}")
    return program


def _answers(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=2)
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False
    finally:
        client.close()
