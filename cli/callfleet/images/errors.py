"""What can go wrong while images are built."""

from callfleet_core.errors import CallFleetError


class ImageError(CallFleetError):
    """An image could not be built; the text says what to do."""
