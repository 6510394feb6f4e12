"""A Redis of a test's own, which may die and come back with nothing in it, at the same address."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.integration.apiserver import free_port
from tests.integration.part import Part

from callfleet.parts.debian import which

START_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class OwnRedis:
    """Where it answers, while it runs."""

    url: str
    part: Part

    def ttl_s(self, key: str) -> int:
        """How long a key lives on: -2 where there is none, -1 for ever. By a new connection."""
        with Redis.from_url(self.url, socket_timeout=2) as client:
            return int(client.ttl(key))

    def stop(self) -> None:
        """It dies, and all that it held with it."""
        self.part.stop()

    def start(self) -> None:
        """It is back, empty."""
        self.part.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        with Redis.from_url(self.url, socket_timeout=2) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisConnectionError:
                    assert time.monotonic() < deadline, f"Redis did not answer; see {self.part.log}"
                    time.sleep(0.05)


@contextmanager
def own_redis(home: Path) -> Iterator[OwnRedis]:
    """A running server, gone at the end."""
    program = which("redis-server")
    assert program is not None, "redis-server is not installed: run `callfleet parts build debian`"
    port, password = free_port(), secrets.token_hex(16)
    config = home / "redis.conf"
    config.touch(0o600)
    config.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {home}\nsave ""\nappendonly no\n')
    server = OwnRedis(f"redis://:{password}@127.0.0.1:{port}/0", Part([str(program), str(config)], home / "redis.log"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
