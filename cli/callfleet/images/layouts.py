"""OCI image layouts in the cache: folders of blobs that only ever receive what is new."""

import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from callfleet.images.errors import ImageError

REF = "org.opencontainers.image.ref.name"


def index_of(layout: Path) -> dict[str, Any]:
    """The layout's index. Raises ImageError when the folder is not a layout."""
    try:
        index: dict[str, Any] = json.loads((layout / "index.json").read_text())
    except FileNotFoundError as error:
        raise ImageError(f"{layout} holds no image; build it with `callfleet images build`") from error
    return index


def has_image(layout: Path, ref: str) -> bool:
    """Whether the layout holds the image `ref` with all its blobs."""
    if not (layout / "index.json").is_file():
        return False
    entries = [e for e in index_of(layout)["manifests"] if e.get("annotations", {}).get(REF) == ref]
    return bool(entries) and all((layout / blob).is_file() for entry in entries for blob in blobs_of(layout, entry))


def blobs_of(layout: Path, entry: dict[str, Any]) -> list[str]:
    """The paths of an image's manifest, configuration and layers inside the layout."""
    manifest_path = blob_path(entry["digest"])
    if not (layout / manifest_path).is_file():
        return [manifest_path]
    manifest = json.loads((layout / manifest_path).read_text())
    digests = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    return [manifest_path, *(blob_path(digest) for digest in digests)]


def blob_path(digest: str) -> str:
    """`blobs/sha256/…` of `sha256:…`."""
    return "blobs/" + digest.replace(":", "/")


def share_blobs(layout: Path, siblings: Iterable[Path]) -> None:
    """Replace blobs that a sibling layout holds too by links to them: most of an image does not change."""
    for blob in (layout / "blobs").glob("*/*"):
        for sibling in siblings:
            twin = sibling / blob.relative_to(layout)
            if twin.is_file() and not twin.samefile(blob):
                blob.unlink()
                blob.hardlink_to(twin)
                break


def unpack_archive(archive: Path, layout: Path, ref: str) -> None:
    """Turn an OCI archive of one image into a layout that calls it `ref`. Raises ImageError."""
    with tarfile.open(archive) as content:
        content.extractall(layout, filter="data")
    if not (layout / "index.json").is_file():
        raise ImageError("this engine saves no OCI images; docker 25 or newer, podman or buildah do")
    index = index_of(layout)
    for entry in index["manifests"]:
        entry.setdefault("annotations", {})[REF] = ref
    (layout / "index.json").write_text(json.dumps(index))
