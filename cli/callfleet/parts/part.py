"""What a part is: something found on this machine, or built once into the cache."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callfleet.parts.locks import file_lock
from callfleet.parts.paths import lock_path, part_home
from callfleet.parts.run import Runner

LOCK_TIMEOUT_S = 3600.0
KEPT_VERSIONS = 2
SCRATCH = ".building-"


@dataclass(frozen=True)
class Found:
    """Where a part is and who provides it (`PATH`, `cache`, `system`)."""

    provider: str
    path: Path


@dataclass(frozen=True)
class BuildContext:
    """What a build gets: the runner of its commands, the log of this part, and a place for remarks."""

    runner: Runner
    log: Path
    note: Callable[[str], None]


class Part(Protocol):
    """A real part. `expected_s` is its build time on 2 cores; `lane` is `cpu` or `net`."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def title(self) -> str:
        """A few words for people."""

    @property
    def expected_s(self) -> float:
        """Seconds it takes to make on 2 cores."""

    @property
    def lane(self) -> str:
        """`cpu` or `net`: parts of different lanes are made side by side."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of parts that must be there first."""

    def find(self) -> Found | None:
        """The first provider that satisfies it, or None: it must be built."""

    def build(self, context: BuildContext) -> Found:
        """Make it. Raises PartError."""


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends without an error.

    The caller holds a lock over `target`'s folder: what lies there under such a name was left by a killed run.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=target.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _forget_old(target)


def cached_build(name: str, key: str, make: Callable[[Path], None], on_wait: Callable[[], None]) -> Path:
    """The folder of part `name` at recipe `key`, made by `make(folder)` if it is not there yet."""
    target = part_home(name) / key
    if target.is_dir():
        return target
    with file_lock(lock_path(f"part-{name}"), LOCK_TIMEOUT_S, on_wait):
        if not target.is_dir():
            with atomic_folder(target) as scratch:
                make(scratch)
    return target


def _forget_old(target: Path) -> None:
    """Keep the newest few versions of a part; a cache must not grow for ever."""
    others = [path for path in target.parent.iterdir() if path != target and not path.name.startswith(".")]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
