"""What can go wrong while parts are found or built; each text says what the user can do."""

from pathlib import Path

from callfleet_core.errors import CallFleetError


class PartError(CallFleetError):
    """A part could not be found or built."""


class BuildFailedError(PartError):
    """A build command ended with an error; its log says why."""

    def __init__(self, what: str, returncode: int, log: Path) -> None:
        super().__init__(f"{what} failed (exit {returncode}); see {log}")
        self.log = log


class BuildCanceledError(PartError):
    """The user stopped the build."""


class MissingToolError(PartError):
    """A program that CallFleet cannot make itself is absent or too old."""
