"""Where the programs of a local cluster are."""

from dataclasses import dataclass
from pathlib import Path

from callfleet.cluster.errors import ClusterError
from callfleet.parts.api import program, system_program

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


@dataclass(frozen=True)
class Programs:
    """Paths of programs; `kubernetes` and `cni` are folders."""

    kubernetes: Path
    coredns: Path
    etcd: Path
    containerd: Path
    ctr: Path
    cni: Path
    pause_image: Path


def find_programs(*, optimised: bool = False) -> Programs:
    """The programs, from the built parts and the distribution. Raises PartError or ClusterError."""
    kubernetes = program("k8s-optimised" if optimised else "k8s", "kubelet").parent
    cni = next((folder for folder in CNI_FOLDERS if (folder / "bridge").is_file()), None)
    if cni is None:
        raise ClusterError("the CNI plugins are not installed; run `callfleet parts build debian`")
    return Programs(
        kubernetes=kubernetes,
        coredns=program("coredns"),
        etcd=system_program("etcd"),
        containerd=system_program("containerd"),
        ctr=system_program("ctr"),
        cni=cni,
        pause_image=program("pause", "pause.tar"),
    )
