"""Images into the local cluster's containerd."""

import subprocess
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError
from callfleet.cluster.layout import Layout
from callfleet.cluster.local import check_alive
from callfleet.cluster.ocilayout import images_in, stream_layout
from callfleet.parts.api import system_program

IMPORT_TIMEOUT_S = 600.0
LIST_TIMEOUT_S = 30.0
ID = "sha256:"


@dataclass(frozen=True)
class LocalLoader:
    """Imports archives and layout folders into the cluster's containerd, as far as they are not there."""

    layout: Layout

    def load(self, archive: Path) -> None:
        """Import an OCI archive, or of a layout folder the blobs that are not there yet."""
        wanted = images_in(archive).items()
        if wanted <= self._present().items():
            return
        if archive.is_dir():
            self._stream(archive)
        else:
            self._ctr("images", "import", str(archive), timeout_s=IMPORT_TIMEOUT_S)
        present = self._present()
        if not wanted <= present.items():
            raise ClusterError(f"{archive} was imported, but its images are not there under their names")
        old = superseded(present, dict(wanted), self._ctr("containers", "ls", timeout_s=LIST_TIMEOUT_S))
        if old:
            self._ctr("images", "rm", *old, timeout_s=LIST_TIMEOUT_S)

    def check(self) -> None:
        """Raises ClusterError, naming the component that ended and its log."""
        check_alive(self.layout)

    def _present(self) -> dict[str, str]:
        return listed_images(self._ctr("images", "ls", timeout_s=LIST_TIMEOUT_S))

    def _stream(self, layout: Path) -> None:
        blobs = set(self._ctr("content", "ls", "-q", timeout_s=LIST_TIMEOUT_S).split())
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self._argv("images", "import", "-"), stdin=subprocess.PIPE, stdout=output, stderr=output
            )
            try:
                if process.stdin is not None:
                    with process.stdin as pipe:
                        stream_layout(layout, blobs, pipe)
                returncode = process.wait(IMPORT_TIMEOUT_S)
            except BrokenPipeError:
                returncode = process.wait(IMPORT_TIMEOUT_S)
            finally:
                process.kill()
                process.wait()
            if returncode != 0:
                output.seek(0)
                raise ClusterError(f"`ctr images import` failed: {output.read().decode()[-400:]}")

    def _argv(self, *arguments: str) -> list[str]:
        return [str(system_program("ctr")), "-a", str(self.layout.containerd_socket), "-n", "k8s.io", *arguments]

    def _ctr(self, *arguments: str, timeout_s: float) -> str:
        done = subprocess.run(self._argv(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise ClusterError(f"`ctr {' '.join(arguments)}` failed: {done.stderr.strip()[-400:]}")
        return done.stdout


def listed_images(table: str) -> dict[str, str]:
    """Name → digest from the table `ctr images ls` prints."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def superseded(present: Mapping[str, str], loaded: Collection[str], containers: str) -> list[str]:
    """The images to forget: of a loaded one's name with another tag, and ids that Kubernetes gave to what has no name.

    `present` is name → digest; what a container (by ctr's table) uses stays. containerd's Kubernetes side names each
    image a second time, "sha256:…", which keeps its layers on the disk when the first name is gone.
    """
    used = set(containers.split())
    repositories = {name.rpartition(":")[0] for name in loaded}
    old = {name for name in present if name not in loaded and name.rpartition(":")[0] in repositories} - used
    named = {digest for name, digest in present.items() if not name.startswith(ID) and name not in old}
    ids = {name for name, digest in present.items() if name.startswith(ID) and digest not in named}
    return sorted(old | (ids - used))
