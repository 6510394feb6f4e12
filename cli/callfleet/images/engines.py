"""The programs that build images: buildah, docker or podman, the first that works here."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callfleet.images.errors import ImageError
from callfleet.images.layouts import unpack_archive
from callfleet.parts.debian import which
from callfleet.parts.locks import file_lock
from callfleet.parts.paths import cache_root, lock_path
from callfleet.parts.run import Runner

BUILD_TIMEOUT_S = 3600.0
COMMAND_TIMEOUT_S = 600.0
PROBE_TIMEOUT_S = 20.0
LOCK_TIMEOUT_S = 3600.0
# The stage of every Dockerfile of ours that no later stage starts from, and that is worth keeping.
TOOLS = "build"
# Twice as fast as gzip, and smaller; containerd reads it since 1.5, docker since 23.
COMPRESSION = ("--compression-format", "zstd", "--compression-level", "1")
CERTIFICATES = Path("/etc/ssl/certs")
# Settings of mirrors and private authorities that a build needs as its builder does.
PASSED_THROUGH = ("PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")


@dataclass(frozen=True)
class Order:
    """One image to build."""

    checkout: Path
    dockerfile: str
    target: str
    ref: str
    base: str
    models: Path | None


class Engine(Protocol):
    """A builder of images."""

    @property
    def name(self) -> str:
        """For messages."""

    def has(self, ref: str) -> bool:
        """Whether the engine has the image already."""

    def load(self, archive: Path, ref: str, runner: Runner, log: Path) -> None:
        """Take an OCI archive in."""

    def build(self, order: Order, layout: Path, runner: Runner, log: Path) -> None:
        """Build and write the image into the OCI layout folder. Raises PartError."""


def build_arguments(order: Order, target: str, tag: str, environment: Mapping[str, str]) -> list[str]:
    """The arguments every engine understands, for one stage of the order's Dockerfile."""
    argv = ["-f", str(order.checkout / order.dockerfile), "-t", tag, "--target", target]
    argv += ["--build-arg", f"BASE_IMAGE={order.base}", "--build-arg", "UV_SYSTEM_CERTS=1"]
    for name in PASSED_THROUGH:
        if environment.get(name):
            argv += ["--build-arg", f"{name}={environment[name]}"]
    if order.models is not None:
        argv += ["--build-context", f"models={order.models}"]
    return argv


@dataclass(frozen=True)
class Buildah:
    """buildah with a store of our own: no daemon, works without a container engine."""

    name: str = "buildah"

    def has(self, ref: str) -> bool:
        """Whether our store holds it."""
        argv = [*self._argv(), "inspect", "--type", "image", ref]
        return subprocess.run(argv, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False).returncode == 0

    def load(self, archive: Path, ref: str, runner: Runner, log: Path) -> None:
        """Pull from the archive."""
        runner.run([*self._argv(), "pull", f"oci-archive:{archive}:{ref}"], log, timeout_s=COMMAND_TIMEOUT_S)

    def build(self, order: Order, layout: Path, runner: Runner, log: Path) -> None:
        """Build in layers with times of 0, then push what is new into the layout.

        The stage with the build tools and the image keep a fixed tag each: pruning what has none leaves them.
        """
        repository = order.ref.rpartition(":")[0]
        tools, image = f"{repository}-{TOOLS}:cache", f"{repository}:cache"
        with file_lock(lock_path("buildah"), LOCK_TIMEOUT_S):
            # Under the lock nobody works in the store: these are what stopped builds have left.
            runner.run([*self._argv(), "rm", "--all"], log, timeout_s=COMMAND_TIMEOUT_S)
            for target, tag in ((TOOLS, tools), (order.target, image)):
                self._build_stage(order, target, tag, runner, log)
            argv = [*self._argv(), "push", *COMPRESSION, image, f"oci:{layout}:{order.ref}"]
            runner.run(argv, log, timeout_s=COMMAND_TIMEOUT_S)
            runner.run([*self._argv(), "rmi", "--prune", "--force"], log, timeout_s=COMMAND_TIMEOUT_S)

    def _build_stage(self, order: Order, target: str, tag: str, runner: Runner, log: Path) -> None:
        argv = [*self._argv(), "bud", "--isolation", "chroot", "--network", "host", "--layers", "--timestamp", "0"]
        if CERTIFICATES.is_dir():
            argv += ["-v", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        argv += [*build_arguments(order, target, tag, os.environ), str(order.checkout)]
        runner.run(argv, log, timeout_s=BUILD_TIMEOUT_S)

    def _argv(self) -> list[str]:
        store = cache_root() / "buildah"
        # In a mount namespace that ends with it: a build that is stopped leaves its overlay mounts behind otherwise.
        return ["unshare", "--mount", "buildah", "--root", str(store / "root"), "--runroot", str(store / "run")]


@dataclass(frozen=True)
class DockerLike:
    """docker (with its daemon) or podman."""

    name: str

    def has(self, ref: str) -> bool:
        """Whether the engine holds it."""
        argv = [self.name, "image", "inspect", ref]
        return subprocess.run(argv, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False).returncode == 0

    def load(self, archive: Path, ref: str, runner: Runner, log: Path) -> None:
        """`load` the archive; it carries its own name."""
        runner.run([self.name, "load", "-i", str(archive)], log, timeout_s=COMMAND_TIMEOUT_S)
        if not self.has(ref):
            raise ImageError(f"{self.name} did not take {archive}; see {log}")

    def build(self, order: Order, layout: Path, runner: Runner, log: Path) -> None:
        """Build, save as an archive, unpack it as a layout."""
        argv = [self.name, "build", *build_arguments(order, order.target, order.ref, os.environ), str(order.checkout)]
        runner.run(argv, log, timeout_s=BUILD_TIMEOUT_S, env={"DOCKER_BUILDKIT": "1"})
        archive = layout.parent / f"{layout.name}.tar"
        shape = ["--format", "oci-archive"] if self.name == "podman" else []
        try:
            argv = [self.name, "save", *shape, "-o", str(archive), order.ref]
            runner.run(argv, log, timeout_s=COMMAND_TIMEOUT_S)
            unpack_archive(archive, layout, order.ref)
        finally:
            archive.unlink(missing_ok=True)


def find_engine() -> Engine:
    """The first engine that works here. Raises ImageError saying what to install."""
    if which("buildah") is not None and os.geteuid() == 0:
        return Buildah()
    for name in ("docker", "podman"):
        if which(name) is not None and _answers(name):
            return DockerLike(name)
    if which("buildah") is not None:
        raise ImageError("buildah is here but needs root; use sudo")
    raise ImageError("no builder of images works here; run `callfleet parts build debian` for buildah")


def _answers(program: str) -> bool:
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
