"""A connection that does not wait for ever: not for a server that hangs, nor behind a network that swallows packets."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen

# Longer than the server's own timeouts (callfleet_core.db.engine): one that lives says first what is wrong.
ANSWER_TIMEOUT_S = 20.0

Answer = TypeVar("Answer")


class BoundedConnection(AsyncConnection[Any]):
    """psycopg's connection; where no answer comes within ANSWER_TIMEOUT_S, it is closed.

    What was asked may then have happened or not, as with a connection that was cut. Raises OperationalError.
    `patience_s` is another bound, set and taken back by whoever asks for what takes longer.
    """

    patience_s: float | None = None

    async def wait(self, gen: PQGen[Answer], *args: Any, **kwargs: Any) -> Answer:
        """Waits for one answer."""
        return await super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[Answer]) -> PQGen[Answer]:
        timeout_s = ANSWER_TIMEOUT_S if self.patience_s is None else self.patience_s
        deadline = time.monotonic() + timeout_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # psycopg comes by several times a second, with nothing while there is nothing.
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise OperationalError(
                        f"PostgreSQL did not answer within {timeout_s:.0f} s: see whether it, its synchronous"
                        " standby and the network are up; what was asked may have happened"
                    )
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
