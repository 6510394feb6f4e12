"""Runs one command that must not outlive its owner: a stand-alone script, standard library only.

`leash.py GRACE_S PROGRAM ARGS…`, started as the leader of a process group. The owner holds the other end of our
standard input: when it closes, because the owner was killed with -9, the whole group gets SIGTERM, then SIGKILL.
"""

import os
import select
import signal
import subprocess
import sys
import time

POLL_S = 0.1


def _owner_gone(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the command's end (False) or the owner's (True)."""
    poller = select.poll()
    poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    pidfd = os.pidfd_open(process.pid)
    poller.register(pidfd, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == pidfd:
                return False
            if not os.read(descriptor, 1024):
                return True


def _end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    os.killpg(0, signal.SIGKILL)  # ends us too: whoever is left in the group must not run on


def main() -> int:
    """Run the command; its exit code, 127 when it cannot be started."""
    grace_s, argv = float(sys.argv[1]), sys.argv[2:]
    # Who ends the group waits for us to tell that the command has ended. Not SIG_IGN: the command would inherit it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{argv[0]} cannot be run: {error}", file=sys.stderr)
        return 127
    if _owner_gone(process):
        _end_group(process, grace_s)
    returncode = process.wait()
    return returncode if returncode >= 0 else 128 - returncode


if __name__ == "__main__":
    sys.exit(main())
