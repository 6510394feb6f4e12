"""The machine that a figure was taken on, in words: a figure without it says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path

BUSY_LOAD = 0.5


def description() -> str:
    """CPU, cores, memory and kernel of this machine, in one line."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    memory_gib = pages * page_bytes / 2**30
    kernel = f"{platform.system()} {platform.release()}"
    return f"{_cpu()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, {kernel}, Python {platform.python_version()}"


def load() -> str:
    """The load before anything was started, and whether others use the machine."""
    one_min = os.getloadavg()[0]
    busy = " (others use this machine: the figures are worth little)" if one_min > BUSY_LOAD else ""
    return f"{one_min:.2f} in the minute before{busy}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
