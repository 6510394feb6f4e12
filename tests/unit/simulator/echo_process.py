"""A speech process without a model: answers after a while, with what it was asked and who it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from callfleet_simulator import wire


def prepare() -> Callable[[wire.Header, bytes], wire.Frame]:
    """Nothing to load."""

    def handle(header: wire.Header, payload: bytes) -> wire.Frame:
        if header.get("dies"):
            os._exit(1)
        time.sleep(header["takes_s"])
        return {**header, "pid": os.getpid()}, payload

    return handle


if __name__ == "__main__":
    wire.serve(prepare)
