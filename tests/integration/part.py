"""A server process of a test's own that may die and come back: at the same address, by its PID only."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Part:
    """A command and the file that its output goes to."""

    command: list[str]
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Starts it; whether it answers is its user's to ask."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def stop(self) -> None:
        """Kills it, if it runs, and waits for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
