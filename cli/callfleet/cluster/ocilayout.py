"""Reads OCI images from archives and layout folders, and streams only what a cluster lacks."""

import json
import tarfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from callfleet.cluster.errors import ClusterError

NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def images_in(source: Path) -> dict[str, str]:
    """Name → manifest digest of the images in an OCI archive or layout folder. Raises ClusterError."""
    images: dict[str, str] = {}
    for manifest in _index(source)["manifests"]:
        annotations = manifest.get("annotations", {})
        name = next((annotations[key] for key in NAME_ANNOTATIONS if key in annotations), None)
        if name is None:
            raise ClusterError(f"{source} holds an image without a name")
        images[name] = manifest["digest"]
    return images


def stream_layout(layout: Path, present: Collection[str], out: IO[bytes]) -> None:
    """Write a layout folder as an OCI archive into `out`, without the blobs whose digests are `present`."""
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for name in ("oci-layout", "index.json"):
            archive.add(layout / name, name)
        for blob in sorted((layout / "blobs").glob("*/*")):
            if f"{blob.parent.name}:{blob.name}" not in present:
                archive.add(blob, str(blob.relative_to(layout)))


def _index(source: Path) -> dict[str, Any]:
    try:
        if source.is_dir():
            text = (source / "index.json").read_bytes()
        else:
            with tarfile.open(source) as content:
                member = content.extractfile("index.json")
                text = member.read() if member else b""
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ClusterError(f"{source} is not an OCI archive or layout: {error}") from error
    index: dict[str, Any] = json.loads(text)
    return index
