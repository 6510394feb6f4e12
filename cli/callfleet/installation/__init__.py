"""A whole CallFleet on a cluster, for the demo and the cluster tests: one way to install, the chart."""

from callfleet.installation.databases import Databases, installation_databases
from callfleet.installation.install import HostService, Installation, InstallError, Settings, installed

__all__ = [
    "Databases",
    "HostService",
    "InstallError",
    "Installation",
    "Settings",
    "installation_databases",
    "installed",
]
