"""Builds CallFleet's images when something they are made of has changed."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from callfleet.images.base import choose_base
from callfleet.images.engines import Engine, Order, find_engine
from callfleet.images.errors import ImageError
from callfleet.images.layouts import has_image, share_blobs
from callfleet.images.recipes import RECIPES, Recipe, find_checkout, image_key
from callfleet.parts.api import ensure, models_folder
from callfleet.parts.locks import file_lock
from callfleet.parts.models import ModelsPart
from callfleet.parts.part import atomic_folder
from callfleet.parts.paths import cache_root, lock_path, log_home
from callfleet.parts.progress import Step
from callfleet.parts.reporter import Progress
from callfleet.parts.run import Runner

EXPECTED_S = {"operator": 30.0, "worker": 90.0, "worker-demo": 100.0}
# What the demo and the tests run.
DEFAULT = ("operator", "worker-demo")
LOCK_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class BuiltImage:
    """An image: the name pods use, and the OCI layout folder that `ClusterHandle.load_image` takes."""

    ref: str
    layout: Path

    @property
    def repository(self) -> str:
        """The name without the tag, as charts want it."""
        return self.ref.rpartition(":")[0]

    @property
    def tag(self) -> str:
        """The tag: a hash of everything the image is made of."""
        return self.ref.rpartition(":")[2]


def build(
    names: Sequence[str] = DEFAULT, progress: Progress | None = None, checkout: Path | None = None
) -> dict[str, BuiltImage]:
    """Build the named images unless nothing they are made of has changed. Raises ImageError or PartError."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise ImageError(f"there is no image {unknown[0]!r}; known: {', '.join(RECIPES)}")
    if progress is None:
        with Progress("Building CallFleet's images") as own:
            return build(names, own, checkout)
    root = find_checkout(checkout)
    for name in names:
        progress.add(Step(f"image-{name}", f"Image {name}", EXPECTED_S[name], lane="images"))
    return {name: _build_one(RECIPES[name], root, progress) for name in names}


def built(name: str) -> BuiltImage:
    """The image built last. Raises ImageError when there is none."""
    facts = _facts(name)
    if facts is None:
        raise ImageError(f"{name} is not built yet; run `callfleet images build {name}`")
    return _image(RECIPES[name], facts["key"])


def _build_one(recipe: Recipe, checkout: Path, progress: Progress) -> BuiltImage:
    step = f"image-{recipe.name}"
    with file_lock(lock_path(step), LOCK_TIMEOUT_S, lambda: progress.note(step, "another process builds it")):
        facts = _facts(recipe.name)
        if facts is not None:
            image = _image(recipe, image_key(checkout, recipe, facts["base"], ModelsPart().key))
            if has_image(image.layout, image.ref):
                progress.skip(step)
                _remember(recipe, image, facts["base"])
                return image
        if recipe.with_models:
            ensure(["models"], progress)
        engine = find_engine()
        base = choose_base(engine, progress)
        with progress.step(step):
            image = _image(recipe, image_key(checkout, recipe, base, ModelsPart().key))
            _make(recipe, image, checkout, base, engine)
            _remember(recipe, image, base)
    return image


def _make(recipe: Recipe, image: BuiltImage, checkout: Path, base: str, engine: Engine) -> None:
    log = log_home() / f"image-{recipe.name}.log"
    log.unlink(missing_ok=True)
    models = models_folder() if recipe.with_models else None
    order = Order(checkout, recipe.dockerfile, recipe.target, image.ref, base, models)
    runner = Runner()
    shutil.rmtree(image.layout, ignore_errors=True)
    with atomic_folder(image.layout) as scratch:
        try:
            engine.build(order, scratch, runner, log)
        except BaseException:
            runner.cancel()
            raise
        if not has_image(scratch, image.ref):
            raise ImageError(f"{image.ref} was built but was not written; see {log}")
        siblings = [path for path in image.layout.parent.iterdir() if not path.name.startswith(".")]
        share_blobs(scratch, siblings)


def _image(recipe: Recipe, key: str) -> BuiltImage:
    return BuiltImage(f"{recipe.repository}:{key}", cache_root() / "images" / recipe.name / key)


def _facts(name: str) -> dict[str, str] | None:
    """What was built last: its key and its base; None before the first time."""
    try:
        facts: dict[str, str] = json.loads((cache_root() / "images" / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return facts


def _remember(recipe: Recipe, image: BuiltImage, base: str) -> None:
    facts = {"key": image.tag, "base": base}
    (cache_root() / "images" / f"{recipe.name}.json").write_text(json.dumps(facts))
