"""What a run has used: CPU by program, the operator's memory, and the API server's writes by kind."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.integration.apiserver import ApiServer

_TICKS = os.sysconf("SC_CLK_TCK")
_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
# What the cluster writes all the time, with sessions or without.
_NOT_COUNTED = {"leases", "nodes", "tokenreviews", "subjectaccessreviews", "endpointslices", "apiservices"}


def cpu_s() -> dict[str, float]:
    """CPU seconds so far of this process and its descendants, by program; ended children count with their parents."""
    found: dict[str, float] = defaultdict(float)
    for pid in (os.getpid(), *_descendants(os.getpid())):
        try:
            name, fields = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile; its parent has its time
        user, system, gone_user, gone_system = (int(field) for field in fields[11:15])
        own = user + system
        # Only PostgreSQL's children come and go: ours are seen by themselves.
        found[_label(pid, name)] += (own + gone_user + gone_system if name == "postgres" else own) / _TICKS
    return found


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was added meanwhile, the most first."""
    added = {name: value - before.get(name, 0) for name, value in after.items()}
    return dict(sorted(added.items(), key=lambda item: -item[1]))


def _label(pid: int, name: str) -> str:
    if pid == os.getpid():
        return "driver"
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return "operator" if b"callfleet_operator.main" in words else name


def _stat(pid: int) -> tuple[str, list[str]]:
    text = Path(f"/proc/{pid}/stat").read_text()
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, rest.split()


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))


def peak_mb(pid: int) -> float:
    """The most memory that a process has had at once, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no memory: it has ended")


def writes(server: ApiServer) -> Counter[str]:
    """Writes that the API server was asked for so far, by verb and resource."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(server.text("/metrics")):
        for sample in family.samples:
            if sample.name == "apiserver_request_total" and _is_write(sample.labels):
                resource = "/".join(filter(None, (sample.labels["resource"], sample.labels["subresource"])))
                found[f"{sample.labels['verb']} {resource}"] += int(sample.value)
    return found


def _is_write(labels: Mapping[str, str]) -> bool:
    return labels["verb"] in _WRITES and labels["resource"] not in _NOT_COUNTED
