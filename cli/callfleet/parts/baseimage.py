"""Images made without a registry: the Debian base our Dockerfiles fall back to, and the pause image."""

from dataclasses import dataclass
from pathlib import Path

from callfleet.parts.debian import root_prefix, which
from callfleet.parts.errors import MissingToolError
from callfleet.parts.ociarchive import FORMAT, single_file_layer, write_archive
from callfleet.parts.part import BuildContext, Found, cached_build
from callfleet.parts.paths import part_home
from callfleet.parts.recipe import recipe_hash

BASE_PACKAGES = "python3,python3-venv,ca-certificates"
SUITE = "bookworm"
SHRINK_AND_PACK = """\
for path in var/cache/apt var/lib/apt/lists var/log usr/share/doc usr/share/locale usr/share/man; do
  find "$1/$path" -mindepth 1 -delete
done
tar -C "$1" --numeric-owner --sort=name -cf "$2" .
rm -rf "$1"
"""
BUILD_TIMEOUT_S = 1200.0
BASE_REPOSITORY = "localhost/callfleet/base"
PAUSE_NAME = "localhost/callfleet/pause:1"
# The pod's first process: it only holds the pod's namespaces and reaps what is re-parented to it.
PAUSE_SOURCE = """\
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void down(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
  signal(SIGINT, down); signal(SIGTERM, down); signal(SIGCHLD, reap);
  for (;;) pause();
}
"""


def _program(name: str) -> str:
    found = which(name)
    if found is None:
        raise MissingToolError(f"{name} is not installed; run `callfleet parts build debian`")
    return str(found)


@dataclass(frozen=True)
class BaseImagePart:
    """A minimal Debian with Python, as an OCI archive (`base.tar`)."""

    name: str = "base"
    title: str = "Image base (Debian with Python, for machines no registry answers)"
    expected_s: float = 70.0
    lane: str = "net"
    needs: tuple[str, ...] = ("debian",)

    @property
    def key(self) -> str:
        """The recipe: suite and packages."""
        return recipe_hash([SUITE, BASE_PACKAGES, SHRINK_AND_PACK, BASE_REPOSITORY, FORMAT])

    @property
    def ref(self) -> str:
        """The image's name; its tag is the recipe's key."""
        return f"{BASE_REPOSITORY}:{self.key}"

    def find(self) -> Found | None:
        """Only the cache: a registry's image is looked for when images are built."""
        path = part_home(self.name) / self.key
        return Found("cache", path) if path.is_dir() else None

    def build(self, context: BuildContext) -> Found:
        """Debootstrap, drop what an image does not need, archive."""

        def make(target: Path) -> None:
            prefix = root_prefix("callfleet parts build base")
            root = target / "rootfs"
            # What it mounts while it works must not outlive it.
            argv = [
                *prefix,
                _program("unshare"),
                "--mount",
                _program("debootstrap"),
                "--variant=minbase",
                f"--include={BASE_PACKAGES}",
                SUITE,
                str(root),
            ]
            context.runner.run(argv, context.log, timeout_s=BUILD_TIMEOUT_S)
            layer = target / "rootfs.tar"
            argv = [*prefix, "sh", "-euc", SHRINK_AND_PACK, "sh", str(root), str(layer)]
            context.runner.run(argv, context.log, timeout_s=BUILD_TIMEOUT_S)
            write_archive(target / "base.tar", layer, self.ref, entrypoint=[], user="")
            layer.unlink()

        path = cached_build(self.name, self.key, make, lambda: context.note("another process makes it"))
        return Found("cache", path)


@dataclass(frozen=True)
class PauseImagePart:
    """The image of a pod's first container, as an OCI archive (`pause.tar`)."""

    name: str = "pause"
    title: str = "Pause image"
    expected_s: float = 5.0
    lane: str = "net"
    needs: tuple[str, ...] = ("debian",)

    @property
    def key(self) -> str:
        """The recipe: the source and the name."""
        return recipe_hash([PAUSE_SOURCE, PAUSE_NAME, FORMAT])

    def find(self) -> Found | None:
        """Only the cache."""
        path = part_home(self.name) / self.key
        return Found("cache", path) if path.is_dir() else None

    def build(self, context: BuildContext) -> Found:
        """Compile statically and wrap the program in an image of one layer."""

        def make(target: Path) -> None:
            source, binary = target / "pause.c", target / "pause"
            source.write_text(PAUSE_SOURCE)
            argv = [_program("gcc"), "-Os", "-static", "-s", "-o", str(binary), str(source)]
            context.runner.run(argv, context.log, timeout_s=BUILD_TIMEOUT_S)
            layer = target / "layer.tar"
            layer.write_bytes(single_file_layer(binary, "pause"))
            write_archive(target / "pause.tar", layer, PAUSE_NAME, entrypoint=["/pause"], user="65535:65535")

        path = cached_build(self.name, self.key, make, lambda: context.note("another process makes it"))
        return Found("cache", path)
