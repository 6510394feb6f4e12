"""Writes an OCI image archive with one layer: enough for the images we make without a build tool."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Part of the recipes of images made here: raise it when what is written changes.
FORMAT = "2"
EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def single_file_layer(binary: Path, name: str) -> bytes:
    """A layer holding one executable; the same bytes for the same file, whenever it is made."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as layer:
        info = tarfile.TarInfo(name)
        info.size, info.mode = binary.stat().st_size, 0o755
        with binary.open("rb") as content:
            layer.addfile(info, content)
    return out.getvalue()


def _digest_of(path: Path) -> str:
    with path.open("rb") as handle:
        return "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()


def _json_blob(value: Mapping[str, Any]) -> tuple[str, bytes]:
    data = json.dumps(value, sort_keys=True).encode()
    return "sha256:" + hashlib.sha256(data).hexdigest(), data


def write_archive(archive: Path, layer: Path, name: str, *, entrypoint: Sequence[str], user: str) -> None:
    """Write `archive` as an OCI archive of the image `name` whose only layer is the tar file `layer`."""
    layer_digest = _digest_of(layer)
    config_digest, config = _json_blob(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "User": user, "Env": [f"PATH={':'.join(_PATH)}"]},
            "created": EPOCH,
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
            "history": [{"created": EPOCH, "created_by": "callfleet"}],
        }
    )
    manifest_digest, manifest = _json_blob(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer_digest, "size": layer.stat().st_size}],
        }
    )
    entry = {
        "mediaType": MANIFEST_TYPE,
        "digest": manifest_digest,
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name},
    }
    with tarfile.open(archive, "w") as out:
        _add(out, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        _add(out, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        _add(out, _blob_path(config_digest), config)
        _add(out, _blob_path(manifest_digest), manifest)
        info = tarfile.TarInfo(_blob_path(layer_digest))
        info.size = layer.stat().st_size
        with layer.open("rb") as content:
            out.addfile(info, content)


_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))
