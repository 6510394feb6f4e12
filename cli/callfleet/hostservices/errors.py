"""What can go wrong with the services on this machine."""

from pathlib import Path

from callfleet_core.errors import CallFleetError


class HostServiceError(CallFleetError):
    """A service is not installed, did not start, or died; the text says what to do."""


class ServiceDiedError(HostServiceError):
    """A service ended although nobody asked it to."""

    def __init__(self, service: str, returncode: int, log: Path) -> None:
        super().__init__(f"{service} ended by itself (exit {returncode}); its log is {log}")
        self.log = log
