"""Runs a local cluster inside namespaces of its own: a stand-alone script, standard library only.

`supervisor.py SPEC` forks. The parent (launcher) stays outside; the child is process 1 of new process, mount
and network namespaces and starts the components in order. When process 1 ends, for whatever reason, the kernel
ends every process, mount, bridge, firewall rule and pod network inside: nothing can be left behind. If the
launcher dies, even by kill -9, the kernel kills process 1 (PR_SET_PDEATHSIG).
"""

import ctypes
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x00020000, 0x20000000, 0x40000000, 0x08000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 0x40000, 0x100000
PR_SET_PDEATHSIG = 1
POLL_S = 0.05
NETWORK_TIMEOUT_S = 30.0
READY_TIMEOUT_S = 60.0
ONCE_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
LIBC = ctypes.CDLL(None, use_errno=True)
# Pods carry live calls: what else this machine does gets a processor that both want one time in eleven (the kernel's
# default is 1024 and 100), as it would not on a node of theirs. By the names of versions 1 and 2.
PRECEDENCE = {"cpu.shares": "10240", "cpu.weight": "1000"}
# Ended first and politely: it flushes its store of images.
FLUSHES = "containerd"


class StopRequestedError(Exception):
    """A signal asked the cluster to stop."""


class ComponentError(Exception):
    """A component ended or never became ready."""


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = None if kind is None else kind.encode()
    _check(LIBC.mount(source.encode(), target.encode(), encoded, flags, None), f"mount {target}")


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: tells a process from a later one with its id."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _write(path: Path, value: dict[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(value))
    scratch.replace(path)


# The launcher ------------------------------------------------------------------------------------------------


def launch(spec: dict[str, Any]) -> int:
    """Enter new namespaces, fork process 1, and wait for its end, our owner's end, or a signal."""
    run = Path(spec["run"])
    me = {"pid": os.getpid(), "start_ticks": start_ticks(os.getpid())}
    _write(run / "launcher.json", {"launcher": me})
    _check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC), "unshare")
    launcher = os.getpid()
    init = os.fork()
    if init == 0:
        os._exit(_as_init(spec, launcher))
    _write(run / "launcher.json", {"launcher": me, "init": {"pid": init, "start_ticks": start_ticks(init)}})
    signal.signal(signal.SIGTERM, lambda *_: _signal(init, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _wait_for_end(init, os.pidfd_open(init), watch_owner=bool(spec["ends_with_owner"]))
    return os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_for_end(init: int, pidfd: int, *, watch_owner: bool) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if watch_owner:
        poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == pidfd:
                return
            if not os.read(descriptor, 1024):
                poller.unregister(descriptor)
                _signal(init, signal.SIGTERM)


# Process 1 ---------------------------------------------------------------------------------------------------


def _as_init(spec: dict[str, Any], launcher: int) -> int:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # In the new process namespace the launcher, being outside, reads as 0; re-parenting would read as such too,
    # so the launcher's life is checked once more through the host's /proc, still mounted here.
    if not Path(f"/proc/{launcher}").exists():
        return 1
    node = Node(spec)
    signal.signal(signal.SIGTERM, node.on_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        prepare(spec)
        node.wait_for_network()
        for component in spec["components"]:
            node.start(component)
        node.supervise()
    except StopRequestedError:
        node.report("stopping")
        node.stop()
        return 0
    except (ComponentError, OSError) as error:
        print(f"supervisor: {error}", file=sys.stderr, flush=True)
        node.report("failed", str(error))
        node.stop()
        return 1
    return 0


def prepare(spec: dict[str, Any]) -> None:
    """Make this mount namespace our own: private, with our processes, our /run, and our system settings."""
    _check(LIBC.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("none", "/", None, MS_REC | MS_SHARED)
    _mount("proc", "/proc", "proc", 0)
    for path in spec["tmpfs"]:
        Path(path).mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", path, "tmpfs", 0)
    for name, value in spec["pretended_sysctls"].items():
        fake = Path(spec["run"]) / "sysctl" / name.replace("/", ".")
        fake.parent.mkdir(exist_ok=True)
        fake.write_text(value + "\n")
        _mount(str(fake), f"/proc/sys/{name}", None, MS_BIND)
    for name, value in spec["sysctls"].items():
        Path(f"/proc/sys/{name}").write_text(value)
    for hierarchy in cgroup_roots():
        make_cgroup(hierarchy, spec["cgroup"])


def cgroup_roots(root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Version 2's root, or each hierarchy of version 1."""
    if (root / "cgroup.procs").exists():
        return [root]
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]


def make_cgroup(hierarchy: Path, name: str) -> None:
    """Create the cluster's group; version 1's cpuset refuses processes until it has processors and memory."""
    group = hierarchy / name
    group.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        if (hierarchy / setting).is_file() and (group / setting).is_file():
            (group / setting).write_text((hierarchy / setting).read_text())
    for setting, value in PRECEDENCE.items():
        if (group / setting).is_file():
            (group / setting).write_text(value)


class Node:
    """The components of the running node; process 1 must also reap every orphan."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._run = Path(spec["run"])
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, int] = {}
        self._stopping = False
        self._https = ssl.create_default_context(cafile=spec["ca"])

    def on_stop(self, *_: object) -> None:
        """SIGTERM: noted, acted upon at the next tick."""
        self._stopping = True

    def report(self, phase: str, error: str = "") -> None:
        """Tell the outside what runs and what ended."""
        components = {
            name: {"returncode": self._ended.get(name), "log": self._log_of(name)} for name in self._processes
        }
        _write(self._run / "status.json", {"phase": phase, "error": error, "components": components})

    def wait_for_network(self) -> None:
        """Until the outside has given this namespace its interface and said so."""
        self._until(lambda: (self._run / "network-ready").exists(), NETWORK_TIMEOUT_S, "the network")

    def start(self, component: dict[str, Any]) -> None:
        """Start one component and wait until it is ready, or done if it runs once."""
        name = component["name"]
        with Path(component["log"]).open("wb") as out:
            self._processes[name] = subprocess.Popen(
                component["argv"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        if component["once"]:
            self._until(lambda: name in self._ended, ONCE_TIMEOUT_S, name)
            if self._ended.pop(name) != 0:
                raise ComponentError(f"{name} failed; its log is {component['log']}")
            del self._processes[name]
        elif component["ready"]:
            self._until(lambda: self._answers(component["ready"]), READY_TIMEOUT_S, name)
        self.report("starting")

    def supervise(self) -> None:
        """Run until a component ends or a signal comes."""
        self.report("running")
        while True:
            self._tick()

    def stop(self) -> None:
        """Let containerd flush; the rest ends with this process."""
        process = self._processes.get(FLUSHES)
        if process is None or FLUSHES in self._ended:
            return
        _signal(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while FLUSHES not in self._ended and time.monotonic() < deadline:
            self._reap()
            time.sleep(POLL_S)

    def _until(self, done: Any, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            self._tick()
            if time.monotonic() > deadline:
                raise ComponentError(f"{what} was not ready in {timeout_s:.0f} s; see {self._log_of(what)}")

    def _tick(self) -> None:
        self._reap()
        if self._stopping:
            raise StopRequestedError
        once = {component["name"] for component in self._spec["components"] if component["once"]}
        for name, returncode in self._ended.items():
            if name not in once:
                raise ComponentError(f"{name} ended by itself (exit {returncode}); its log is {self._log_of(name)}")
        time.sleep(POLL_S)

    def _reap(self) -> None:
        names = {process.pid: name for name, process in self._processes.items()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in names:
                self._ended[names[pid]] = os.waitstatus_to_exitcode(status)

    def _log_of(self, name: str) -> str:
        logs = {component["name"]: str(component["log"]) for component in self._spec["components"]}
        return logs.get(name, str(self._run))

    def _answers(self, target: str) -> bool:
        kind, _, rest = target.partition(":")
        try:
            if kind == "https":
                with urllib.request.urlopen(target, timeout=1.0, context=self._https):  # noqa: S310 - https only
                    return True
            if kind == "unix":
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(1.0)
                    probe.connect(rest)
                return True
            host, _, port = rest.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=1.0):
                return True
        except (OSError, urllib.error.URLError):
            return False


if __name__ == "__main__":
    sys.exit(launch(json.loads(Path(sys.argv[1]).read_text())))
