"""`python -m callfleet_simulator --people people.yaml`: the carrier as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
from pathlib import Path

import structlog

from callfleet_core import logs
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.errors import SimulatorError
from callfleet_simulator.people import People, load_people
from callfleet_simulator.server import serve
from callfleet_simulator.speech import Speech

log = structlog.get_logger(__name__)


_MODELS = "folder with whisper-base/ and piper/ (default: CALLFLEET_MODELS_DIR or /models); needed when people talk"
_CACHE = "keeps spoken lines between starts (default: CALLFLEET_SIMULATOR_CACHE_DIR, else memory only)"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m callfleet_simulator",
        description="A Twilio-compatible carrier with people who answer. Credentials come from TWILIO_ACCOUNT_SID, "
        "TWILIO_AUTH_TOKEN and, if set, TWILIO_API_KEY_SID and TWILIO_API_KEY_SECRET.",
    )
    parser.add_argument("--people", type=Path, required=True, help="YAML file: who answers which number")
    parser.add_argument("--listen", default="127.0.0.1:8090", help="address:port (default: %(default)s)")
    parser.add_argument("--number", action="append", default=[], help="a caller ID of the account; default: any")
    parser.add_argument("--models", type=Path, default=os.environ.get("CALLFLEET_MODELS_DIR", "/models"), help=_MODELS)
    parser.add_argument("--cache-dir", type=Path, default=os.environ.get("CALLFLEET_SIMULATOR_CACHE_DIR"), help=_CACHE)
    parser.add_argument("--seed", type=int, default=None, help="what people draw from; default: drawn and logged")
    parser.add_argument("--max-calls", type=int, default=50, help="calls at once (default: %(default)s)")
    parser.add_argument("--price-delay-s", type=float, default=2.0, help="seconds until an ended call has its price")
    return parser.parse_args()


def _config(arguments: argparse.Namespace) -> CarrierConfig:
    try:
        sid, token = os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"]
    except KeyError as error:
        raise SimulatorError(f"set {error.args[0]}: it is what callers must authenticate with") from error
    key, key_secret = os.environ.get("TWILIO_API_KEY_SID"), os.environ.get("TWILIO_API_KEY_SECRET")
    return CarrierConfig(
        account_sid=sid,
        auth_token=token,
        api_keys={key: key_secret} if key and key_secret else {},
        numbers=frozenset(arguments.number),
        max_calls=arguments.max_calls,
        price_delay_s=arguments.price_delay_s,
        seed=secrets.randbits(32) if arguments.seed is None else arguments.seed,
    )


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SimulatorError("--listen must be address:port, e.g. 127.0.0.1:8090")
    return host.strip("[]"), int(port)


async def _run(arguments: argparse.Namespace, config: CarrierConfig, people: People, host: str, port: int) -> None:
    if not any(person.talks for person in people.people.values()):
        return await serve(Carrier(config, people), host, port)
    async with Speech(people, arguments.models, arguments.cache_dir, config.seed) as speech:
        await serve(Carrier(config, people, speech.far_end), host, port)
    return None


def main() -> int:
    """Runs until SIGINT or SIGTERM; 2 when it cannot start."""
    arguments = _arguments()
    logs.configure("simulator", os.environ.get("LOG_LEVEL", "INFO"))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines hold whole URLs
    try:
        config = _config(arguments)
        people = load_people(arguments.people)
        host, port = _address(arguments.listen)
        log.info("simulator starts", people=len(people.people), seed=config.seed, listen=arguments.listen)
        asyncio.run(_run(arguments, config, people, host, port))
    except (SimulatorError, OSError) as error:
        print(f"callfleet_simulator: {error}", file=sys.stderr)  # noqa: T201 - the user's terminal
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
