"""Images into the local cluster's containerd."""

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError
from callfleet.cluster.layout import Layout
from callfleet.cluster.local import check_alive
from callfleet.parts.api import system_program

IMPORT_TIMEOUT_S = 600.0
LIST_TIMEOUT_S = 30.0
NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class LocalLoader:
    """Imports archives into the cluster's containerd, unless the same image is there."""

    layout: Layout

    def load(self, archive: Path) -> None:
        """Import `archive`; nothing happens when its images are there with the same digests."""
        if archive_images(archive).items() <= self._present().items():
            return
        self._ctr("images", "import", str(archive), timeout_s=IMPORT_TIMEOUT_S)
        if not archive_images(archive).items() <= self._present().items():
            raise ClusterError(f"{archive} was imported, but its images are not there under their names")

    def check(self) -> None:
        """Raises ClusterError, naming the component that ended and its log."""
        check_alive(self.layout)

    def _present(self) -> dict[str, str]:
        return listed_images(self._ctr("images", "ls", timeout_s=LIST_TIMEOUT_S))

    def _ctr(self, *arguments: str, timeout_s: float) -> str:
        argv = [str(system_program("ctr")), "-a", str(self.layout.containerd_socket), "-n", "k8s.io", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise ClusterError(f"`ctr {' '.join(arguments)}` failed: {done.stderr.strip()[-400:]}")
        return done.stdout


def archive_images(archive: Path) -> dict[str, str]:
    """Name → manifest digest of an OCI archive's images. Raises ClusterError when one has no name."""
    with tarfile.open(archive) as content:
        member = content.extractfile("index.json")
        if member is None:
            raise ClusterError(f"{archive} is not an OCI archive")
        manifests = json.load(member)["manifests"]
    images: dict[str, str] = {}
    for manifest in manifests:
        annotations = manifest.get("annotations", {})
        name = next((annotations[key] for key in NAME_ANNOTATIONS if key in annotations), None)
        if name is None:
            raise ClusterError(f"{archive} holds an image without a name")
        images[name] = manifest["digest"]
    return images


def listed_images(table: str) -> dict[str, str]:
    """Name → digest from the table `ctr images ls` prints."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}
