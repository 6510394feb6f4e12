"""`callfleet demo` on a local node, stopped in the middle of things: nothing is left, and the next one works."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tests.cluster.world import demo_documents

from callfleet.cluster.api import PROVIDER_VARIABLE
from callfleet.cluster.layout import layout_for
from callfleet.cluster.supervisor import cgroup_roots
from callfleet.demo.setup import CLUSTER

MARK = "CALLFLEET_TEST_MARK"
REACH_TIMEOUT_S = 240.0
# Containerd may flush, PostgreSQL may shut down: a few seconds each, one after the other.
STOP_TIMEOUT_S = 90.0
GONE_TIMEOUT_S = 30.0
MOMENTS = (
    "▸ Kubernetes node",
    "▸ Images into the cluster",
    "▸ PostgreSQL, Redis and Ollama",
    "▸ CallFleet by its chart",
    "Dialing",
)


class Demo:
    """A demo in a process group of its own, as a shell would start it; everything it starts carries its mark.

    Its temporary files have a folder of their own: beside it, other tests have theirs. It is short, for sockets.
    """

    def __init__(self, *arguments: str) -> None:
        self.mark = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="cf-"))
        self.folder.chmod(0o755)  # PostgreSQL is another user's
        self.process = subprocess.Popen(
            [sys.executable, "-m", "callfleet", "demo", *arguments],
            env={**os.environ, MARK: self.mark, PROVIDER_VARIABLE: "local", "TMPDIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def reach(self, moment: str) -> None:
        """Reads on until a line says that the moment has come."""
        assert self.process.stderr is not None
        deadline = time.monotonic() + REACH_TIMEOUT_S
        said = []
        for line in self.process.stderr:
            said.append(line)
            if moment in line:
                return
            assert time.monotonic() < deadline, "".join(said)
        pytest.fail(f"it ended before {moment!r}:\n{''.join(said)}")

    def press_ctrl_c(self) -> None:
        """What a terminal does: SIGINT to the whole foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def marked(self) -> list[str]:
        """Every process that still carries the mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
            except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                continue
        return found

    def files(self) -> list[str]:
        """What is left in its folder, which goes."""
        left = [path.name for path in self.folder.iterdir()]
        shutil.rmtree(self.folder)
        return left


def traces() -> set[str]:
    """What a demo could leave on this machine apart from processes and temporary files."""
    layout = layout_for(CLUSTER)
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    found = {f"mount {point}" for point in mounts if not Path(point).is_relative_to(tempfile.gettempdir())}
    found |= {f"link {path.name}" for path in Path("/sys/class/net").iterdir()}
    found |= {f"group {path}" for root in cgroup_roots() if (path := root / layout.cgroup).exists()}
    return found | ({f"folder {layout.run}"} if layout.run.exists() else set())


@pytest.fixture
def before() -> set[str]:
    """The traces there are already, by others."""
    return traces()


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_twice_at_any_moment_leaves_nothing(moment: str, before: set[str]) -> None:
    demo = Demo()
    try:
        demo.reach(moment)
        demo.press_ctrl_c()
        time.sleep(1.0)
        demo.press_ctrl_c()
        _, said = demo.process.communicate(timeout=STOP_TIMEOUT_S)
    finally:
        demo.process.kill()
    assert demo.process.returncode == 130, said
    assert "nothing is left running" in said
    assert demo.marked() == []
    assert demo.files() == []
    assert traces() - before == set()


def small_campaign(folder: Path) -> Path:
    """The demo's campaign with one person, and a short talk."""
    documents: list[dict[str, Any]] = list(demo_documents())
    documents[1]["spec"]["contacts"]["inline"] = documents[1]["spec"]["contacts"]["inline"][:1]
    documents[1]["spec"]["agent"]["questions"] = documents[1]["spec"]["agent"]["questions"][:2]
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_after_kill_9_in_the_middle_nothing_runs_on_and_the_next_demo_works(tmp_path: Path, before: set[str]) -> None:
    killed = Demo()
    killed.reach("Dialing")
    killed.process.kill()
    killed.process.communicate()
    second = Demo("--json", "--campaign", str(small_campaign(tmp_path)))
    try:
        out, said = second.process.communicate(timeout=REACH_TIMEOUT_S)
    finally:
        second.process.kill()
    assert second.process.returncode == 0, said
    summary = json.loads(out)
    assert summary["sessions"]["completed"] == 1
    assert summary["budget"]["spent_carrier"] == summary["carrier_billed"]
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while killed.marked() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert killed.marked() == []
    assert second.marked() == []
    assert (killed.files(), second.files()) == ([], [])
    assert traces() - before == set()
