"""What can go wrong with a cluster; each text says what the user can do."""

from pathlib import Path

from callfleet_core.errors import CallFleetError


class ClusterError(CallFleetError):
    """A cluster could not be started, reached or stopped."""


class ComponentDiedError(ClusterError):
    """A part of the local cluster ended; named with the place of its log."""

    def __init__(self, component: str, returncode: int, log: Path) -> None:
        super().__init__(f"{component} ended by itself (exit {returncode}); its log is {log}")
        self.component = component
        self.log = log


class ProviderUnavailableError(ClusterError):
    """A provider of clusters does not work here; the next one is tried."""
