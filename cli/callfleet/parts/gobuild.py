"""Go programs built from the module folders in `callfleet/gotools`, with versions pinned by their go.sum."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callfleet.parts.errors import MissingToolError, PartError
from callfleet.parts.part import BuildContext, Found, cached_build
from callfleet.parts.paths import cache_root, part_home
from callfleet.parts.recipe import recipe_hash

GOTOOLS = Path(__file__).resolve().parent.parent / "gotools"
BUILD_TIMEOUT_S = 3600.0
GO_TIMEOUT_S = 300.0
# go 1.21 and later fetch the toolchain a module asks for through the module proxy (GOTOOLCHAIN=auto).
OLDEST_SELF_UPDATING_GO = (1, 21)
# The user's own workspace and flags must not change what is built.
GO_ENV = {"GOWORK": "off", "GOFLAGS": "-mod=readonly"}
UNOPTIMISED = ("-gcflags", "all=-N -l")


@dataclass(frozen=True)
class GoPart:
    """One or more programs of one module.

    `path_programs`: names that, all found on PATH, satisfy the part. `optimised=False` skips the compiler's
    optimisation: builds in a third of the time, runs at about half the speed.
    """

    name: str
    title: str
    expected_s: float
    module: str
    packages: tuple[str, ...]
    path_programs: tuple[str, ...] = ()
    optimised: bool = False
    cgo: bool = False
    ldflags: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    lane: str = "cpu"

    @property
    def folder(self) -> Path:
        """The module folder, with go.mod and go.sum."""
        return GOTOOLS / self.module

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the built programs."""
        return tuple(package.rsplit("/", 1)[-1] for package in self.packages)

    @property
    def key(self) -> str:
        """The recipe: module files, packages, flags, architecture."""
        files = [path for path in self.folder.iterdir() if path.suffix in (".mod", ".sum", ".go")]
        facts = [*self.packages, self.ldflags, str(self.optimised), platform.machine()]
        return recipe_hash([*facts, *(cpu_flags() if self.cgo else ())], files)

    def find(self) -> Found | None:
        """All programs on PATH (where the part allows it), then the cache."""
        paths = [shutil.which(program) for program in self.path_programs]
        if paths and paths[0] and all(paths):
            return Found("PATH", Path(paths[0]).parent)
        path = part_home(self.name) / self.key
        return Found("cache", path) if path.is_dir() else None

    def build(self, context: BuildContext) -> Found:
        """Compile into the cache. Raises MissingToolError when Go is absent or too old."""
        require_go(self.folder, self.title)

        def make(target: Path) -> None:
            env = self._environment()
            argv = [
                "go",
                "build",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                f"-s -w {self.ldflags}".strip(),
            ]
            argv += [] if self.optimised else list(UNOPTIMISED)
            argv += ["-o", f"{target}/", *self.packages]
            context.runner.run(argv, context.log, timeout_s=BUILD_TIMEOUT_S, env=env, cwd=self.folder)

        path = cached_build(self.name, self.key, make, lambda: context.note("another process builds it"))
        return Found("cache", path)

    def _environment(self) -> dict[str, str]:
        # GOGC=800: the compiler spends a third of its time collecting garbage otherwise.
        env = {"GOGC": "800", "CGO_ENABLED": "1" if self.cgo else "0", **GO_ENV}
        if self.cgo:
            # A lasting place: the path is part of the compiler's cache key.
            include = cache_root() / "include" / self.name
            for target, source in self.headers.items():
                module, _, file = source.partition(":")
                (include / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(module_folder(self.folder, module) / file, include / target)
            flags = " ".join(["-O2", *cpu_flags()])
            env |= {"CGO_CFLAGS": flags, "CGO_CXXFLAGS": flags, "CGO_CPPFLAGS": f"-I{include} -I/usr/include"}
        return env


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The compiler's vector flags this CPU can use: inference is several times slower without them."""
    if platform.machine() != "x86_64" or not cpuinfo.is_file():
        return ()
    match = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    present = set(match.group(1).split()) if match else set()
    wanted = ("avx2", "fma", "f16c", "bmi2")
    return tuple(f"-m{flag}" for flag in wanted) if present.issuperset(wanted) else ()


def go_version(text: str) -> tuple[int, int] | None:
    """(1, 26) from `go version`'s or go.mod's text."""
    match = re.search(r"\bgo\s?(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else None


def go_is_enough(have: tuple[int, int], need: tuple[int, int], toolchain: str) -> bool:
    """Whether a Go can build a module: new enough, or allowed to fetch the toolchain it needs."""
    return have >= need or (have >= OLDEST_SELF_UPDATING_GO and toolchain not in ("local", ""))


def require_go(folder: Path, what: str) -> None:
    """Raises MissingToolError, saying what to install, unless the `go` on PATH can build `folder`'s module."""
    need = go_version(re.sub(r"(?s)^.*?\n(go .*?)\n.*$", r"\1", (folder / "go.mod").read_text()))
    if need is None:
        raise PartError(f"{folder}/go.mod names no Go version")
    wanted = f"Go {need[0]}.{need[1]} or newer is needed to build {what}"
    hint = "install it from go.dev/dl (Debian 12's golang package, 1.19, is too old) and put it on PATH"
    if shutil.which("go") is None:
        raise MissingToolError(f"{wanted}, and there is no `go` on PATH: {hint}")
    have = go_version(_go(["go", "version"], folder))
    if have is None or not go_is_enough(have, need, _go(["go", "env", "GOTOOLCHAIN"], folder).strip()):
        raise MissingToolError(f"{wanted}; found {'.'.join(map(str, have or ()))}: {hint}")


def module_folder(folder: Path, module: str) -> Path:
    """Where Go keeps the sources of a module that `folder`'s go.mod requires (checked against go.sum)."""
    return Path(json.loads(_go(["go", "mod", "download", "-json", module], folder))["Dir"])


def _go(argv: Sequence[str], folder: Path) -> str:
    env = {**os.environ, **GO_ENV}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=GO_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise PartError(f"`{' '.join(argv)}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout
