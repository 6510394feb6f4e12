"""Runs build commands with their output in a log, so that they can all be ended at once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from callfleet.parts.errors import BuildCanceledError, BuildFailedError

LEASH = Path(__file__).with_name("leash.py")
TERM_GRACE_S = 5.0


class Runner:
    """Starts commands in their own process groups and remembers them until they end.

    They end with this process too, however it ends (`leash.py`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._canceled = False

    def run(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run `argv`, output appended to `log`; `env` is added to the process's own environment.

        Raises BuildFailedError on a non-zero exit or after `timeout_s`, BuildCanceledError after `cancel()`.
        """
        with log.open("ab") as out:
            out.write(f"$ {' '.join(argv)}\n".encode())
            out.flush()
            process = self._start(argv, out.fileno(), {**os.environ, **(env or {})}, cwd)
        try:
            returncode = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end_group(process)
            returncode = process.wait()
        except BaseException:
            # Ctrl-C does not reach another process group by itself.
            _end_group(process)
            raise
        finally:
            if process.stdin is not None:
                process.stdin.close()
            with self._lock:
                self._running.discard(process)
        if self._canceled:
            raise BuildCanceledError(f"{Path(argv[0]).name} was stopped")
        if returncode != 0:
            raise BuildFailedError(Path(argv[0]).name, returncode, log)

    def cancel(self) -> None:
        """End everything that runs and refuse to start more."""
        with self._lock:
            self._canceled = True
            running = tuple(self._running)
        for process in running:
            _end_group(process)

    def _start(
        self, argv: Sequence[str], out: int, env: Mapping[str, str], cwd: Path | None
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._canceled:
                raise BuildCanceledError(f"{Path(argv[0]).name} was not started")
            process = subprocess.Popen(
                [sys.executable, "-I", str(LEASH), str(TERM_GRACE_S), *argv],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
            self._running.add(process)
            return process


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for signum, grace_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, TERM_GRACE_S)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signum)
        except ProcessLookupError:
            return
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
