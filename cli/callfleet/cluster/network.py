"""The addresses of a local cluster: a private block that nothing on this machine uses."""

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from callfleet.cluster.errors import ClusterError

IP_TIMEOUT_S = 10.0
# Where blocks are taken from; 10.96.0.0 and 10.244.0.0 are the habits of other Kubernetes installations.
POOL = IPv4Network("10.200.0.0/13")
BLOCK_PREFIX = 22


@dataclass(frozen=True)
class Block:
    """One /22 of a cluster: the link between host and node, the pods, the services."""

    network: IPv4Network

    def _subnet(self, index: int) -> IPv4Network:
        return list(self.network.subnets(new_prefix=24))[index]

    @property
    def link(self) -> IPv4Network:
        """The host and the node are alone in it."""
        return self._subnet(0)

    @property
    def pods(self) -> IPv4Network:
        """The pods' addresses."""
        return self._subnet(1)

    @property
    def services(self) -> IPv4Network:
        """The ClusterIPs."""
        return self._subnet(2)

    @property
    def host(self) -> IPv4Address:
        """The host as pods see it: where host services listen."""
        return self.link[1]

    @property
    def node(self) -> IPv4Address:
        """The node: API server, DNS, node ports."""
        return self.link[2]

    @property
    def first_service(self) -> IPv4Address:
        """The ClusterIP of `kubernetes.default`."""
        return self.services[1]


def choose_block(taken: Iterable[IPv4Network], start: int = 0) -> Block:
    """The first block, from the `start`-th on and around, that overlaps nothing in `taken`. Raises ClusterError."""
    used = [network for network in taken if network.prefixlen > 0]
    blocks = list(POOL.subnets(new_prefix=BLOCK_PREFIX))
    for offset in range(len(blocks)):
        candidate = blocks[(start + offset) % len(blocks)]
        if not any(candidate.overlaps(network) for network in used):
            return Block(candidate)
    raise ClusterError(f"every private network in {POOL} is in use on this machine; stop a cluster first")


def networks_in(addresses: str, routes: str) -> Iterator[IPv4Network]:
    """The IPv4 networks in the JSON of `ip -j -4 addr` and `ip -j -4 route show table all`."""
    for device in json.loads(addresses or "[]"):
        for address in device.get("addr_info", []):
            yield ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
    for route in json.loads(routes or "[]"):
        destination = route.get("dst", "default")
        if destination != "default":
            yield IPv4Network(destination, strict=False)


def taken_networks() -> list[IPv4Network]:
    """The networks this machine has addresses in or routes to."""
    return list(networks_in(ip("-j", "-4", "addr"), ip("-j", "-4", "route", "show", "table", "all")))


def ip(*arguments: str, inside_pid: int | None = None) -> str:
    """Run `ip`, in the network namespace of a process if one is given. Raises ClusterError."""
    prefix = [] if inside_pid is None else ["nsenter", "-t", str(inside_pid), "-n"]
    argv = [*prefix, "ip", *arguments]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=IP_TIMEOUT_S,
        check=False,
        start_new_session=True,  # a second Ctrl-C must not end what cleans up
    )
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
    return done.stdout


def connect(block: Block, device: str, init_pid: int) -> None:
    """Join the host and the node's network namespace with a pair of virtual interfaces.

    There is no route out: pods reach this machine's services and each other, nothing else.
    """
    prefix = block.link.prefixlen
    ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", str(init_pid))
    ip("addr", "add", f"{block.host}/{prefix}", "dev", device)
    ip("link", "set", device, "up")
    ip("addr", "add", f"{block.node}/{prefix}", "dev", "eth0", inside_pid=init_pid)
    for inner in ("lo", "eth0"):
        ip("link", "set", inner, "up", inside_pid=init_pid)
    for network in (block.pods, block.services):
        ip("route", "replace", str(network), "via", str(block.node), "dev", device)


def disconnect(device: str) -> None:
    """Remove the host's end, if it is there; its routes go with it.

    The kernel removes the pair, too, a moment after the node's namespace ended: losing that race is no error.
    """
    if not _is_there(device):
        return
    try:
        ip("link", "del", device)
    except ClusterError:
        if _is_there(device):
            raise


def _is_there(device: str) -> bool:
    return any(link.get("ifname") == device for link in json.loads(ip("-j", "link") or "[]"))
