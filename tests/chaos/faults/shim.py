"""The machine under PostgreSQL: its clock and its disk, wrong on demand (shim.c)."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("shim.c")
_FORMAT: Final = "qq"
_NS: Final = 1_000_000_000


class Machine:
    """The shim, built in `folder`, and its two handles. Raises FileNotFoundError where there is no C compiler."""

    def __init__(self, folder: Path) -> None:
        library, control = folder / "shim.so", folder / "control"
        argv = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
        subprocess.run(argv, check=True, timeout=60)
        control.write_bytes(struct.pack(_FORMAT, 0, 0))
        control.chmod(0o644)
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), 0)
        self.env: Final = {"LD_PRELOAD": str(library), "FAULTS_CONTROL": str(control)}

    def set(self, *, clock_s: float = 0, sync_s: float = 0) -> None:
        """From now on the clock is `clock_s` ahead, and a sync of the disk takes `sync_s` longer."""
        self._control[:] = struct.pack(_FORMAT, int(clock_s * _NS), int(sync_s * _NS))
