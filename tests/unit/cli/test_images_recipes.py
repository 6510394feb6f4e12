"""When an image is built again, and what the builders are told."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from callfleet.cluster.errors import ClusterError
from callfleet.cluster.ocilayout import images_in, stream_layout
from callfleet.images.engines import Order, build_arguments
from callfleet.images.errors import ImageError
from callfleet.images.layouts import has_image, share_blobs
from callfleet.images.recipes import RECIPES, find_checkout, image_key, source_files
from callfleet.parts.ociarchive import single_file_layer, write_archive

OPERATOR, WORKER, DEMO = RECIPES["operator"], RECIPES["worker"], RECIPES["worker-demo"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Dockerfile.operator", "Dockerfile.worker", "pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").touch()
    for name in ("core", "operator", "gateway", "worker", "simulator", "alembic"):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "code.py").write_text(name)
    return tmp_path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An OCI archive of a one-file image named `localhost/x:1`."""
    binary, layer, path = tmp_path / "pause", tmp_path / "layer.tar", tmp_path / "image.tar"
    binary.write_bytes(b"program")
    layer.write_bytes(single_file_layer(binary, "pause"))
    write_archive(path, layer, "localhost/x:1", entrypoint=["/pause"], user="1:1")
    return path


@pytest.fixture
def layout(archive: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder


def test_the_operators_image_does_not_change_with_the_workers_code(checkout: Path) -> None:
    before = image_key(checkout, OPERATOR, "base", "")
    (checkout / "worker/package/code.py").write_text("changed")
    assert image_key(checkout, OPERATOR, "base", "") == before
    assert "worker" not in {path.relative_to(checkout).parts[0] for path in source_files(checkout, OPERATOR)}


@pytest.mark.parametrize("file", ["core/package/code.py", "uv.lock", "Dockerfile.operator", ".dockerignore"])
def test_what_goes_into_an_image_changes_its_key(checkout: Path, file: str) -> None:
    before = image_key(checkout, OPERATOR, "base", "")
    (checkout / file).write_text("changed")
    assert image_key(checkout, OPERATOR, "base", "") != before


def test_compiled_files_change_nothing(checkout: Path) -> None:
    before = image_key(checkout, OPERATOR, "base", "")
    (checkout / "core/package/__pycache__").mkdir()
    (checkout / "core/package/__pycache__/code.pyc").touch()
    assert image_key(checkout, OPERATOR, "base", "") == before


def test_only_the_demos_worker_depends_on_the_models(checkout: Path) -> None:
    assert image_key(checkout, WORKER, "base", "a") == image_key(checkout, WORKER, "base", "b")
    assert image_key(checkout, DEMO, "base", "a") != image_key(checkout, DEMO, "base", "b")


def test_another_base_is_another_image(checkout: Path) -> None:
    assert image_key(checkout, OPERATOR, "a", "") != image_key(checkout, OPERATOR, "b", "")


def test_images_are_built_from_a_checkout_only(checkout: Path) -> None:
    assert find_checkout(checkout / "core" / "package") == checkout
    (checkout / "gateway/package/code.py").unlink()
    (checkout / "gateway/package").rmdir()
    (checkout / "gateway").rmdir()
    with pytest.raises(ImageError, match="checkout"):
        image_key(checkout, OPERATOR, "base", "")


def test_builders_get_the_base_the_stage_and_the_mirrors_of_their_environment() -> None:
    order = Order(Path("/src"), "Dockerfile.worker", "demo", "ref:1", "base:1", Path("/models"))
    environment = {"PIP_INDEX_URL": "https://mirror.example/simple", "HOME": "/root"}
    argv = build_arguments(order, "demo", "tag:1", environment)
    assert "BASE_IMAGE=base:1" in argv
    assert "PIP_INDEX_URL=https://mirror.example/simple" in argv
    assert "models=/models" in argv
    assert not any(word.startswith("HOME=") for word in argv)


def test_an_archive_says_which_images_it_holds(archive: Path, layout: Path) -> None:
    images = images_in(archive)
    assert list(images) == ["localhost/x:1"]
    assert images_in(layout) == images


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("hello")
    with pytest.raises(ClusterError, match="not an OCI archive"):
        images_in(tmp_path / "x.tar")


def test_a_layout_without_a_blob_does_not_count_as_an_image(layout: Path) -> None:
    assert has_image(layout, "localhost/x:1")
    assert not has_image(layout, "localhost/x:2")
    next((layout / "blobs/sha256").iterdir()).unlink()
    assert not has_image(layout, "localhost/x:1")


def test_only_blobs_that_a_cluster_lacks_are_sent(layout: Path) -> None:
    blobs = sorted(path.name for path in (layout / "blobs/sha256").iterdir())
    out = io.BytesIO()
    stream_layout(layout, {f"sha256:{blobs[0]}"}, out)
    out.seek(0)
    with tarfile.open(fileobj=out) as sent:
        names = set(sent.getnames())
    assert names == {"oci-layout", "index.json", *(f"blobs/sha256/{blob}" for blob in blobs[1:])}


def test_equal_blobs_of_two_builds_take_their_place_once(layout: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    with tarfile.open(tmp_path / "image.tar") as content:
        content.extractall(twin, filter="data")
    share_blobs(twin, [layout])
    for blob in (layout / "blobs/sha256").iterdir():
        assert blob.samefile(twin / "blobs/sha256" / blob.name)
    assert json.loads((twin / "index.json").read_text()) == json.loads((layout / "index.json").read_text())
