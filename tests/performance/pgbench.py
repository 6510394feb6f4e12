"""The peer: PostgreSQL's own pgbench (TPC-B like), the way the goals name it."""

from __future__ import annotations

import os
import re
import subprocess
from urllib.parse import unquote, urlsplit

from callfleet.hostservices import postgres_program

SCALE = 8
INIT_TIMEOUT_S = 120


class Pgbench:
    """pgbench at a database of its own; one transaction is 3 updates, 1 select and 1 insert, in 7 round trips."""

    def __init__(self, url: str, clients: int) -> None:
        self._clients = clients
        self._program = str(postgres_program("pgbench"))
        parts = urlsplit(url)
        # In the environment, not in the arguments, which every user of the machine may read.
        self._env = os.environ | {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": parts.path.lstrip("/"),
        }

    def fill(self) -> None:
        """Makes its tables."""
        self._run(["-i", "-q", "-s", str(SCALE)], INIT_TIMEOUT_S)

    def transactions_per_s(self, seconds: int) -> float:
        """Runs it for so many seconds, without the time for connecting."""
        argv = ["-c", str(self._clients), "-M", "prepared", "-T", str(seconds)]
        output = self._run(argv, INIT_TIMEOUT_S + seconds)
        found = re.search(r"^tps = ([\d.]+) \(without initial connection time\)$", output, re.MULTILINE)
        if found is None:
            raise ValueError(f"pgbench printed no tps: {output[-500:]}")
        return float(found[1])

    def _run(self, argv: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            [self._program, *argv], env=self._env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"pgbench failed: {done.stderr[-500:]}")
        return done.stdout
