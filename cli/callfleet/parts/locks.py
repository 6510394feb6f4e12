"""One maker at a time, across processes."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from callfleet.parts.errors import PartError

POLL_S = 0.2


@contextmanager
def file_lock(path: Path, timeout_s: float, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel frees it when the process dies.

    `on_wait` is called once when somebody else holds it. Raises PartError after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    told = False
    with path.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and on_wait is not None:
                    on_wait()
                told = True
            if time.monotonic() > deadline:
                holder = path.read_text().strip() or "another"
                raise PartError(f"process {holder} has held {path} for {timeout_s:.0f} s; end it and try again")
            time.sleep(POLL_S)
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield
