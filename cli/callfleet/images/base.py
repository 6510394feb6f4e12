"""The image our images start from: a registry's where one answers, else the one made here."""

import os
import socket

from callfleet.images.engines import Engine
from callfleet.images.recipes import REGISTRY_BASE
from callfleet.parts.api import ensure, program
from callfleet.parts.baseimage import BaseImagePart
from callfleet.parts.errors import PartError
from callfleet.parts.paths import log_home
from callfleet.parts.reporter import Progress
from callfleet.parts.run import Runner

REGISTRY_HOST = "registry-1.docker.io"
PROBE_TIMEOUT_S = 5.0


def choose_base(engine: Engine, progress: Progress) -> str:
    """`CALLFLEET_BASE_IMAGE`, the registry's image, or our own, loaded into the engine. Raises PartError."""
    given = os.environ.get("CALLFLEET_BASE_IMAGE")
    if given:
        return given
    if engine.has(REGISTRY_BASE) or registry_answers():
        return REGISTRY_BASE
    progress.say("No image registry answers: the images start from the Debian base made here.")
    return own_base(engine, progress)


def own_base(engine: Engine, progress: Progress) -> str:
    """The base made by debootstrap, known to the engine by a name that carries its recipe. Raises PartError."""
    ensure(["base"], progress)
    archive, ref = program("base", "base.tar"), BaseImagePart().ref
    if not engine.has(ref):
        engine.load(archive, ref, Runner(), log_home() / "build-images.log")
    if not engine.has(ref):
        raise PartError(f"{engine.name} did not take {archive}")
    return ref


def registry_answers() -> bool:
    """Whether the registry of the default base can be reached at all; decided within seconds."""
    try:
        with socket.create_connection((REGISTRY_HOST, 443), timeout=PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False
