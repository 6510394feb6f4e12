"""What a watcher of the API server sees: every status that a session ever had, in order."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import IO, Any

from tests.cluster.world import World

READ_BYTES = 65536


class Trails:
    """The statuses of a namespace's sessions, by campaign and position, as the watch brought them."""

    def __init__(self) -> None:
        self._seen: list[dict[str, Any]] = []

    def read(self, stream: IO[bytes]) -> None:
        """Takes in what kubectl writes: JSON objects one after the other."""
        decoder, text = json.JSONDecoder(), ""
        while chunk := stream.read(READ_BYTES):  # unbuffered: what there is
            text += chunk.decode()
            while text := text.lstrip():
                try:
                    body, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break  # the rest of it comes with the next chunk
                self._seen.append(body)
                text = text[end:]

    def statuses(self, campaign: str, position: int = 0) -> list[dict[str, Any]]:
        """Every status of a campaign's session, oldest first."""
        return [
            body.get("status", {})
            for body in list(self._seen)
            if body["spec"]["campaign"] == campaign
            and body["metadata"]["annotations"]["callfleet.dev/position"] == str(position)
        ]

    def steps(self, campaign: str, position: int = 0) -> list[str]:
        """Each state, or the reason of a waiting one, once for as long as it lasted."""
        words = (item.get("reason") or item.get("state", "Pending") for item in self.statuses(campaign, position))
        return [word for word, _ in groupby(words)]

    def first(self, reason: str, campaign: str, position: int = 0) -> dict[str, Any]:
        """The first status with this reason."""
        return next(item for item in self.statuses(campaign, position) if item.get("reason") == reason)


@contextmanager
def watched(world: World) -> Iterator[Trails]:
    """Watches the namespace's sessions until the end of the block."""
    trails = Trails()
    command = world.installation.cluster.kubectl("get", "callsessions", "-n", world.namespace, "--watch", "-o", "json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=trails.read, args=(process.stdout,))
        reader.start()
        try:
            yield trails
        finally:
            process.terminate()
            reader.join(timeout=10)
