"""Where built parts, caches and running clusters live: the user's cache folder, never the checkout."""

import os
from pathlib import Path


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/callfleet`, or `~/.cache/callfleet`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "callfleet"


def part_home(name: str) -> Path:
    """The folder holding every built version of one part."""
    return cache_root() / "parts" / name


def log_home() -> Path:
    """The folder of build logs."""
    path = cache_root() / "logs"
    path.mkdir(parents=True, exist_ok=True)
    return path


def lock_path(name: str) -> Path:
    """The lock file that keeps two processes from making the same thing twice."""
    path = cache_root() / "locks"
    path.mkdir(parents=True, exist_ok=True)
    return path / f"{name}.lock"
