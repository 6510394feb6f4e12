"""Ends a local cluster's processes and removes what a killed run may have left."""

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError
from callfleet.cluster.layout import Layout
from callfleet.cluster.network import disconnect
from callfleet.cluster.supervisor import cgroup_roots, start_ticks

STOP_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 10.0
CGROUP_TIMEOUT_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
            return start_ticks(self.pid) == self.start_ticks and stat.rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still there."""
        if not self.is_alive():
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return


def recorded(layout: Layout) -> dict[str, ProcessId]:
    """The processes the launcher wrote down: `launcher` and `init`."""
    return _process_ids(layout.launcher_file)


def owner_of(layout: Layout) -> ProcessId | None:
    """The process that the cluster ends with, if it does."""
    return _process_ids(layout.owner_file).get("owner")


def _process_ids(path: Path) -> dict[str, ProcessId]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return {name: ProcessId(fact["pid"], fact["start_ticks"]) for name, fact in facts.items()}


def end_processes(layout: Layout) -> bool:
    """End the cluster's launcher and process 1 (everything inside ends with it); True if something ran."""
    processes = [process for process in recorded(layout).values() if process.is_alive()]
    for number, timeout_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
        for process in processes:
            process.send(number)
        if _all_gone(processes, timeout_s):
            return bool(processes)
    raise ClusterError(f"processes of cluster {layout.name} do not end: {[p.pid for p in processes]}")


def _all_gone(processes: list[ProcessId], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(process.is_alive() for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def clean(layout: Layout) -> None:
    """Remove the link, the control groups and the run's files. Everything must have ended."""
    disconnect(layout.device)
    deadline = time.monotonic() + CGROUP_TIMEOUT_S
    while not _remove_cgroups(layout.cgroup):
        if time.monotonic() > deadline:
            raise ClusterError(f"control groups named {layout.cgroup} still hold processes")
        time.sleep(POLL_S)
    shutil.rmtree(layout.run, ignore_errors=True)
    if layout.run.exists():
        raise ClusterError(f"{layout.run} could not be removed; something is still mounted or open in it")


def _remove_cgroups(name: str) -> bool:
    clean_now = True
    for root in cgroup_roots():
        for folder, _, _ in os.walk(root / name, topdown=False):
            try:
                os.rmdir(folder)  # noqa: PTH106 - a control group's files cannot and need not be removed
            except OSError:
                clean_now = False
    return clean_now
