"""The two images CallFleet runs: built from the Dockerfiles, kept in the cache, loaded into clusters."""

from callfleet.images.build import BuiltImage, build, built
from callfleet.images.commands import images_app
from callfleet.images.errors import ImageError

__all__ = ["BuiltImage", "ImageError", "build", "built", "images_app"]
