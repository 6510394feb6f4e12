"""Runs one service and ends it with its owner: a stand-alone script, standard library only.

`guard.py [--user NAME] [--stop-signal N] [--grace-s S] [--remove DIR] -- PROGRAM ARGS…`

The owner holds the other end of our standard input: when it closes, because the owner is done or was killed
with -9, the service gets the stop signal, then SIGKILL. If the guard itself is killed, the kernel kills the
service (PR_SET_PDEATHSIG).
"""

import argparse
import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


class _StopRequestedError(Exception):
    """A signal asked the guard to stop."""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _on_signal(number: int, frame: object) -> None:
    raise _StopRequestedError(number, frame)


def _start(argv: list[str], user: str | None) -> subprocess.Popen[bytes]:
    entry = pwd.getpwnam(user) if user else None
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        user=entry.pw_uid if entry else None,
        group=entry.pw_gid if entry else None,
        extra_groups=[] if entry else None,
        preexec_fn=_die_with_parent,
    )


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Return when the service has ended, or the owner has gone, or a signal asks us to stop."""
    poller = select.poll()
    poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    pidfd = os.pidfd_open(process.pid)
    poller.register(pidfd, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == pidfd or not os.read(descriptor, 1024):
                return


def main() -> int:
    """Run the service; the exit code is the service's own, or 0 when we ended it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--stop-signal", type=int, default=signal.SIGTERM)
    parser.add_argument("--grace-s", type=float, default=10.0)
    parser.add_argument("--remove")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's to handle
    process = _start(options.argv, options.user)
    asked = True
    try:
        _wait(process)
        asked = process.poll() is None
    except _StopRequestedError:
        pass
    if process.poll() is None:
        process.send_signal(options.stop_signal)
        try:
            process.wait(options.grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    returncode = process.wait()
    if options.remove:
        shutil.rmtree(options.remove, ignore_errors=True)
    return 0 if asked else (returncode or 1)


if __name__ == "__main__":
    sys.exit(main())
