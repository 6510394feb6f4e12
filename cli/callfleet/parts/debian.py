"""What comes from the distribution: programs and headers, installed when absent and allowed."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callfleet.parts.errors import MissingToolError, PartError
from callfleet.parts.part import BuildContext, Found

APT_TIMEOUT_S = 900.0
SUDO_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 120
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
POLICY = Path("/usr/sbin/policy-rc.d")
# Told to Debian's maintainer scripts: start nothing. Removed again after the installation.
POLICY_TEXT = "#!/bin/sh\n# Written by callfleet while it installs packages; it removes this file.\nexit 101\n"


@dataclass(frozen=True)
class Need:
    """Something the distribution provides: there when any of `evidence` exists (a program or a path glob)."""

    package: str
    evidence: tuple[str, ...]
    why: str
    unit: str | None = None


NEEDS = (
    Need("etcd-server", ("etcd",), "the cluster's store", "etcd"),
    Need("containerd", ("containerd",), "runs the pods", "containerd"),
    Need("runc", ("runc",), "runs the pods"),
    Need("buildah", ("buildah",), "builds the images"),
    Need("containernetworking-plugins", ("/usr/lib/cni/bridge", "/opt/cni/bin/bridge"), "the pods' network"),
    Need("iptables", ("iptables",), "the cluster's services"),
    Need("conntrack", ("conntrack",), "the cluster's services"),
    Need("iproute2", ("ip",), "the cluster's network"),
    Need("util-linux", ("unshare",), "the cluster's namespaces"),
    Need("debootstrap", ("debootstrap",), "the images' base where no registry answers"),
    Need("redis-server", ("redis-server",), "Redis for demo and tests", "redis-server"),
    Need(
        "postgresql",
        ("initdb", "/usr/lib/postgresql/*/bin/initdb"),
        "PostgreSQL for demo and tests",
        "postgresql",
    ),
    Need("gcc", ("gcc", "cc"), "compiles Ollama and the pause image"),
    Need("g++", ("g++", "c++"), "compiles Ollama"),
    Need("libc6-dev", ("/usr/include/stdlib.h",), "compiles Ollama and the pause image"),
    Need("nlohmann-json3-dev", ("/usr/include/nlohmann/json.hpp",), "compiles Ollama"),
    Need("libstb-dev", ("/usr/include/stb/stb_image.h",), "compiles Ollama"),
)


def which(program: str) -> Path | None:
    """A program on PATH or in the system's own folders, which a user's PATH may lack."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    return Path(found) if found else None


def present(need: Need) -> bool:
    """Whether some evidence of `need` exists on this machine."""
    for evidence in need.evidence:
        if evidence.startswith("/"):
            if any(Path("/").glob(evidence.lstrip("/"))):
                return True
        elif which(evidence):
            return True
    return False


def missing(needs: Iterable[Need] = NEEDS) -> list[Need]:
    """The needs nobody satisfies yet."""
    return [need for need in needs if not present(need)]


def install_line(needs: Iterable[Need]) -> str:
    """The one line a user would type."""
    return "apt-get install -y --no-install-recommends " + " ".join(need.package for need in needs)


@dataclass(frozen=True)
class DebianPart:
    """The distribution's programs; every other part may need them."""

    name: str = "debian"
    title: str = "Debian packages (etcd, containerd, buildah, …)"
    expected_s: float = 40.0
    lane: str = "first"
    needs: tuple[str, ...] = ()

    def find(self) -> Found | None:
        """Satisfied when nothing is missing, whoever installed it."""
        return None if missing() else Found("system", Path("/usr"))

    def build(self, context: BuildContext) -> Found:
        """Install what is missing, as root or through `sudo -n`. Raises MissingToolError with the line to run."""
        absent = missing()
        line = install_line(absent)
        if which("apt-get") is None:
            names = ", ".join(need.package for need in absent)
            raise MissingToolError(f"this is not a Debian system; install the equivalents of: {names}")
        prefix = root_prefix(line)
        for need in absent:
            context.note(f"installing {need.package}: {need.why}")
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        apt = [*prefix, "apt-get", "-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}"]
        with _services_stay_off(prefix, context), _no_default_database(prefix, absent, context):
            # What an interrupted installation left half-done would make the next one fail.
            context.runner.run([*prefix, "dpkg", "--configure", "-a"], context.log, timeout_s=APT_TIMEOUT_S, env=env)
            context.runner.run([*apt, "update", "-q"], context.log, timeout_s=APT_TIMEOUT_S, env=env)
            context.runner.run([*apt, *line.split()[1:]], context.log, timeout_s=APT_TIMEOUT_S, env=env)
        _disable_units(prefix, absent, context)
        still = missing()
        if still:
            raise PartError(f"after installing, still missing: {', '.join(need.package for need in still)}")
        return Found("system", Path("/usr"))


def root_prefix(line: str) -> list[str]:
    """What to put before a command that needs root: nothing, or `sudo -n`.

    Raises MissingToolError with `line`, to be run by the user, where neither root nor sudo is ours.
    """
    if os.geteuid() == 0:
        return []
    sudo = which("sudo")
    if sudo is not None:
        probe = subprocess.run(
            [sudo, "-n", "true"],
            capture_output=True,
            timeout=SUDO_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if probe.returncode == 0:
            return [str(sudo), "-n", "--preserve-env=DEBIAN_FRONTEND"]
    raise MissingToolError(f"this needs root; run it once, then try again:\n  sudo {line}")


@contextmanager
def _temporary_file(prefix: list[str], path: Path, text: str, mode: str, context: BuildContext) -> Iterator[None]:
    """Put a root-owned file in place for the block, unless there is one of somebody else's: then leave it alone."""
    # One with our very text was left by a run that was killed.
    if path.exists() and path.read_text() != text:
        yield
        return
    script = f'mkdir -p {path.parent} && printf %s "$1" > {path} && chmod {mode} {path}'
    context.runner.run([*prefix, "sh", "-c", script, "sh", text], context.log, timeout_s=SUDO_TIMEOUT_S)
    try:
        yield
    finally:
        context.runner.run([*prefix, "rm", "-f", str(path)], context.log, timeout_s=SUDO_TIMEOUT_S)


@contextmanager
def _services_stay_off(prefix: list[str], context: BuildContext) -> Iterator[None]:
    with _temporary_file(prefix, POLICY, POLICY_TEXT, "755", context):
        yield


@contextmanager
def _no_default_database(prefix: list[str], absent: list[Need], context: BuildContext) -> Iterator[None]:
    """Debian's PostgreSQL makes and starts a cluster of its own on installation: tell it not to."""
    path = Path("/etc/postgresql-common/createcluster.d/callfleet.conf")
    if not any(need.package == "postgresql" for need in absent):
        yield
        return
    with _temporary_file(prefix, path, "create_main_cluster = false\n", "644", context):
        yield


def _disable_units(prefix: list[str], installed: list[Need], context: BuildContext) -> None:
    """Leave nothing that starts at the next boot, where systemd runs."""
    if not Path("/run/systemd/system").is_dir():
        return
    for need in installed:
        if need.unit:
            argv = [*prefix, "systemctl", "disable", "--now", need.unit]
            context.runner.run(argv, context.log, timeout_s=APT_TIMEOUT_S)


def warn_line() -> str:
    """What will be installed and how, said before it happens; empty when nothing is missing."""
    absent = missing()
    if not absent:
        return ""
    how = "as root" if os.geteuid() == 0 else "with sudo"
    return f"Installing {how}, services left off: {', '.join(need.package for need in absent)}"
