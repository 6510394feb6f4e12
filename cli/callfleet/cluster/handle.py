"""A running cluster, whoever provides it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callfleet.cluster.errors import ClusterError
from callfleet.parts.api import program


class ImageLoader(Protocol):
    """How a provider takes an image archive, and how it says that it is still well."""

    def load(self, archive: Path) -> None:
        """Make the archive's images available to pods. Raises ClusterError."""

    def check(self) -> None:
        """Raises ClusterError, naming what died and its log."""


@dataclass(frozen=True)
class ClusterHandle:
    """Where a cluster is and what it can do.

    `provider`: `given`, `kind` or `local`. `bridge_address`: this machine as pods see it, where host services
    must listen; None for a given cluster. `log_dir`: None where the logs are not ours.
    """

    name: str
    provider: str
    kubeconfig: Path
    context: str
    bridge_address: str | None
    log_dir: Path | None
    loader: ImageLoader

    def load_image(self, archive: Path) -> None:
        """Make the image of an OCI archive or layout folder available to pods (`imagePullPolicy: IfNotPresent`)."""
        self.loader.load(archive)

    def check(self) -> None:
        """Raises ClusterError when a component has died, with the place of its log."""
        self.loader.check()

    def kubectl(self, *arguments: str) -> list[str]:
        """The command line of a kubectl against this cluster."""
        return [str(program("kubectl")), "--kubeconfig", str(self.kubeconfig), "--context", self.context, *arguments]


class GivenLoader:
    """A cluster somebody else runs: its images come from a registry."""

    def load(self, archive: Path) -> None:
        """Always refused."""
        raise ClusterError(f"{archive.name} cannot be loaded into a given cluster: push it to its registry")

    def check(self) -> None:
        """Nothing of it is ours to watch."""
