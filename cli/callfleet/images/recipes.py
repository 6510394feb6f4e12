"""What each image is made of, and the key that says when it must be made again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callfleet.images.errors import ImageError
from callfleet.parts.recipe import file_sha256, recipe_hash

COMMON = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".dockerignore", "core", "alembic")
REGISTRY_BASE = "docker.io/library/python:3.11-slim-bookworm"
FORMAT = "1"  # raise it when the way images are built changes


@dataclass(frozen=True)
class Recipe:
    """One image: its Dockerfile, the stage to build, what it is made of, whether the models go in."""

    name: str
    dockerfile: str
    target: str
    sources: tuple[str, ...]
    with_models: bool = False

    @property
    def repository(self) -> str:
        """The image's name without a tag."""
        return f"localhost/callfleet/{self.name}"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("operator", "Dockerfile.operator", "operator", (*COMMON, "operator", "gateway")),
        Recipe("worker", "Dockerfile.worker", "worker", (*COMMON, "worker", "simulator")),
        Recipe("worker-demo", "Dockerfile.worker", "demo", (*COMMON, "worker", "simulator"), with_models=True),
    )
}


def source_files(checkout: Path, recipe: Recipe) -> Iterator[Path]:
    """Every file the image is made of, compiled files left out. Raises ImageError when one is missing."""
    for name in (recipe.dockerfile, *recipe.sources):
        path = checkout / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(f for f in path.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        else:
            raise ImageError(f"{path} is missing; run this in a CallFleet checkout")


def image_key(checkout: Path, recipe: Recipe, base: str, models_key: str) -> str:
    """Twelve hex digits over the paths and contents of everything that goes into the image."""
    facts = [FORMAT, recipe.name, recipe.target, base, models_key if recipe.with_models else ""]
    for path in source_files(checkout, recipe):
        facts.append(f"{path.relative_to(checkout)}={file_sha256(path)}")
    return recipe_hash(facts)


def find_checkout(start: Path | None = None) -> Path:
    """The CallFleet checkout around `start`, the working folder, or this file. Raises ImageError."""
    for place in (start, Path.cwd(), Path(__file__).resolve()):
        if place is None:
            continue
        for folder in (place, *place.parents):
            if (folder / "Dockerfile.operator").is_file() and (folder / "uv.lock").is_file():
                return folder
    raise ImageError("images are built from a CallFleet checkout; run this inside one")
