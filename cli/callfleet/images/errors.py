"""What can go wrong while images are built."""


class ImageError(Exception):
    """An image could not be built; the text says what to do."""
