"""Where this checkout keeps what is applied and built: chart, samples, Dockerfiles."""

from __future__ import annotations

from pathlib import Path

from callfleet_core.errors import CallFleetError


class NotACheckoutError(CallFleetError):
    """The command needs a checkout of CallFleet and does not run from one."""


def checkout() -> Path:
    """The checkout's top folder. Raises NotACheckoutError where only the packages are installed."""
    top = Path(__file__).resolve().parents[2]
    if not (top / "charts" / "callfleet" / "Chart.yaml").is_file():
        raise NotACheckoutError("this needs a checkout of CallFleet: clone it, and run the command from there")
    return top


def chart() -> Path:
    """The Helm chart."""
    return checkout() / "charts" / "callfleet"


def sample(name: str) -> Path:
    """A file of docs/samples."""
    return checkout() / "docs" / "samples" / name
