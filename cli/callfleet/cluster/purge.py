"""Cleans containerd's store before a start: a stand-alone script, standard library only.

`purge.py CONTAINERD CONFIG CTR SOCKET PAUSE_ARCHIVE`: starts containerd without its Kubernetes side, forgets
every container an earlier run left (their processes and mounts went with its namespaces), and loads the pause
image if it is not there.
"""

import subprocess
import sys
import time
from pathlib import Path

START_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
PAUSE_NAME = "localhost/callfleet/pause:1"


def main() -> int:
    """Clean the store; non-zero when containerd did not start."""
    containerd, config, ctr, socket, pause = sys.argv[1:6]
    server = subprocess.Popen([containerd, "--config", config, "--log-level", "warn"])
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not Path(socket).exists() or _ctr(ctr, socket, "version").returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                print("containerd did not start", file=sys.stderr)
                return 1
            time.sleep(0.05)
        _forget_containers(ctr, socket)
        return _load_pause(ctr, socket, pause)
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()


def _forget_containers(ctr: str, socket: str) -> None:
    left = _ctr(ctr, socket, "containers", "ls", "-q").stdout.split()
    if left:
        print(f"forgetting {len(left)} containers of an earlier run", file=sys.stderr)
        _ctr(ctr, socket, "containers", "rm", *left)


def _load_pause(ctr: str, socket: str, archive: str) -> int:
    if PAUSE_NAME in _ctr(ctr, socket, "images", "ls", "-q").stdout.split():
        return 0
    done = _ctr(ctr, socket, "images", "import", archive)
    print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def _ctr(ctr: str, socket: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [ctr, "-a", socket, "-n", "k8s.io", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
