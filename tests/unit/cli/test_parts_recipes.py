"""Keys, plans and pins of the real parts."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from callfleet.parts import debian
from callfleet.parts.catalogue import DEFAULT, PARTS, plan_parts, with_needs
from callfleet.parts.errors import PartError
from callfleet.parts.gobuild import GOTOOLS, GoPart, cpu_flags, go_is_enough, go_version
from callfleet.parts.locks import file_lock
from callfleet.parts.models import FILES, ModelFile, assemble
from callfleet.parts.part import BuildContext, Found, atomic_folder, cached_build
from callfleet.parts.recipe import file_sha256, recipe_hash


@dataclass(frozen=True)
class FakePart:
    """A part whose provider is known in advance."""

    name: str
    found: Found | None = None
    needs: tuple[str, ...] = ()
    title: str = "a part"
    expected_s: float = 1.0
    lane: str = "cpu"

    def find(self) -> Found | None:
        return self.found

    def build(self, context: BuildContext) -> Found:
        raise AssertionError(f"a plan builds nothing, yet {context.log} is asked for")


def test_the_same_recipe_has_the_same_key_whatever_the_order_of_its_files(tmp_path: Path) -> None:
    one, two = tmp_path / "go.mod", tmp_path / "go.sum"
    one.write_text("module a")
    two.write_text("sums")
    assert recipe_hash(["x"], [one, two]) == recipe_hash(["x"], [two, one])


def test_any_change_of_a_recipe_changes_its_key(tmp_path: Path) -> None:
    file = tmp_path / "go.mod"
    file.write_text("module a")
    before = recipe_hash(["x", "y"], [file])
    assert recipe_hash(["xy"], [file]) != before
    assert recipe_hash(["y", "x"], [file]) != before
    file.write_text("module b")
    assert recipe_hash(["x", "y"], [file]) != before


def test_optimised_and_unoptimised_builds_do_not_share_a_key() -> None:
    plain, optimised = PARTS["k8s"], PARTS["k8s-optimised"]
    assert isinstance(plain, GoPart)
    assert isinstance(optimised, GoPart)
    assert plain.key != optimised.key


def test_a_plan_lists_needs_first_and_says_who_provides_what() -> None:
    there = Found("PATH", Path("/usr/bin"))
    parts = {"base": FakePart("base", there), "app": FakePart("app", needs=("base",))}
    plan = plan_parts(["app"], parts)
    assert [(planned.part.name, planned.found) for planned in plan] == [("base", there), ("app", None)]


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PartError, match="known: base"):
        with_needs(["nothing"], {"base": FakePart("base")})


def test_every_default_part_can_be_planned_and_the_benchmark_build_is_not_among_them() -> None:
    assert not {"k8s-optimised", "kwok"} & set(DEFAULT)
    assert {part.name for part in with_needs(DEFAULT)} == set(DEFAULT)


@pytest.mark.parametrize("module", ["k8s", "coredns", "ollama", "helm", "kwok"])
def test_every_go_module_is_shipped_with_its_checksums(module: str) -> None:
    assert (GOTOOLS / module / "go.mod").is_file()
    assert (GOTOOLS / module / "go.sum").stat().st_size > 1000


@pytest.mark.parametrize(
    ("have", "need", "toolchain", "enough"),
    [
        ((1, 26), (1, 26), "local", True),
        ((1, 25), (1, 26), "local", False),
        ((1, 25), (1, 26), "auto", True),  # fetches the toolchain it needs
        ((1, 19), (1, 26), "auto", False),  # cannot yet
    ],
)
def test_go_is_enough_when_new_or_able_to_fetch_newer(
    have: tuple[int, int], need: tuple[int, int], toolchain: str, enough: bool
) -> None:
    assert go_is_enough(have, need, toolchain) is enough


def test_go_versions_are_read_from_the_program_and_from_go_mod() -> None:
    assert go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert go_version("go 1.24.0") == (1, 24)
    assert go_version("nothing") is None


def test_vector_flags_are_used_only_when_the_processor_has_them_all(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx2 fma f16c\n")
    assert cpu_flags(info) == ()


def test_model_pieces_are_joined_and_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello ")
    (tmp_path / "b").write_bytes(b"world")
    whole = tmp_path / "whole"
    whole.write_bytes(b"hello world")
    file = ModelFile("m/model.bin", ("a", "b"), file_sha256(whole))
    assemble(tmp_path, tmp_path / "out", (file,))
    assert (tmp_path / "out/m/model.bin").read_bytes() == b"hello world"


def test_a_model_with_another_hash_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"tampered")
    with pytest.raises(PartError, match="not used"):
        assemble(tmp_path, tmp_path / "out", (ModelFile("m", ("a",), "0" * 64),))


def test_every_model_file_is_pinned() -> None:
    assert all(len(file.sha256) == 64 for file in FILES)


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "part" / "key"
    with pytest.raises(FileNotFoundError), atomic_folder(target) as scratch:
        (scratch / "no-folder" / "half").touch()
    assert list(target.parent.iterdir()) == []


def test_only_the_newest_versions_of_a_part_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        with atomic_folder(tmp_path / f"v{number}"):
            pass
        os.utime(tmp_path / f"v{number}", (number, number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v2", "v3"]


def test_two_builders_at_once_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Path] = []
    waited: list[bool] = []

    def make(folder: Path) -> None:
        time.sleep(0.3)
        made.append(folder)

    def build() -> None:
        cached_build("thing", "key", make, lambda: waited.append(True))

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert waited == [True]


def test_a_lock_that_is_never_freed_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path, 1.0), pytest.raises(PartError, match="end it"), file_lock(path, 0.0):
        pass


def test_the_line_a_user_would_type_names_exactly_what_is_missing() -> None:
    needs = (debian.Need("etcd-server", ("no-such-program",), "why"), debian.Need("sh", ("sh",), "why"))
    assert debian.install_line(debian.missing(needs)) == ("apt-get install -y --no-install-recommends etcd-server")
