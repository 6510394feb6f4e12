"""`python -m callfleet_simulator --people people.yaml`: the carrier as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from callfleet_core import logs
from callfleet_simulator import options
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.errors import SimulatorError
from callfleet_simulator.faults import Fault
from callfleet_simulator.people import People, load_people
from callfleet_simulator.server import serve
from callfleet_simulator.speech import Speech

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None, program: str = "python -m callfleet_simulator") -> int:
    """Runs until SIGINT or SIGTERM; 2 when it cannot start."""
    given = options.parse(arguments, program)
    logs.configure("simulator", os.environ.get("LOG_LEVEL", "INFO"))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines hold whole URLs
    try:
        configs = options.configs(given)
        people = _with_faults(load_people(given.people), given.fault)
        host, port = options.address(given.listen)
        log.info("simulator starts", people=len(people.people), seed=configs[0].seed, listen=given.listen)
        asyncio.run(_run(given.models, given.cache_dir, configs, people, host, port))
    except (SimulatorError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201 - the user's terminal
        return 2
    return 0


def _with_faults(people: People, faults: list[Fault]) -> People:
    return people.model_copy(update={"faults": [*people.faults, *faults]})


async def _run(
    models: Path, cache_dir: Path | None, configs: Sequence[CarrierConfig], people: People, host: str, port: int
) -> None:
    if not any(person.talks for person in people.people.values()):
        return await serve([Carrier(config, people) for config in configs], host, port)
    async with Speech(people, models, cache_dir, configs[0].seed) as speech:
        await serve([Carrier(config, people, speech.far_end) for config in configs], host, port)
    return None


if __name__ == "__main__":
    sys.exit(main())
