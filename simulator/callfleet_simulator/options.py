"""The simulator's command line, for `python -m callfleet_simulator` and `callfleet simulator`."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import ValidationError

from callfleet_simulator.carrier import CarrierConfig
from callfleet_simulator.errors import FaultError, SimulatorError, readable
from callfleet_simulator.faults import Fault

_DESCRIPTION = (
    "A Twilio-compatible carrier with people who answer. Credentials come from TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN "
    "and, if set, TWILIO_API_KEY_SID and TWILIO_API_KEY_SECRET; accounts beside it, each with calls, pace and faults "
    "of its own, from CALLFLEET_SIMULATOR_ACCOUNTS (SID:token, separated by commas)."
)
_MODELS = "folder with whisper-base/ and piper/ (default: CALLFLEET_MODELS_DIR or /models); needed when people talk"
_CACHE = "keeps spoken lines between starts (default: CALLFLEET_SIMULATOR_CACHE_DIR, else memory only)"
_FAULT = "switches a fault on, repeatable: a kind, e.g. lostReply, or '{kind: droppedCallback, probability: 0.1}'"


def parse(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    """The options; exits with a usage message when they are wrong."""
    parser = argparse.ArgumentParser(prog=program, description=_DESCRIPTION)
    parser.add_argument("--people", type=Path, required=True, help="YAML file: who answers which number")
    parser.add_argument("--listen", default="127.0.0.1:8090", help="address:port (default: %(default)s)")
    parser.add_argument("--number", action="append", default=[], help="a caller ID of the account; default: any")
    parser.add_argument("--models", type=Path, default=os.environ.get("CALLFLEET_MODELS_DIR", "/models"), help=_MODELS)
    parser.add_argument("--cache-dir", type=Path, default=os.environ.get("CALLFLEET_SIMULATOR_CACHE_DIR"), help=_CACHE)
    parser.add_argument(
        "--seed", type=int, default=None, help="what people and faults draw from; default: drawn, logged"
    )
    parser.add_argument("--max-calls", type=_count, default=50, help="calls at once (default: %(default)s)")
    pace = "calls dialled a second; others wait in a queue (default: %(default)s)"
    parser.add_argument("--calls-per-second", type=_rate, default=1.0, help=pace)
    parser.add_argument("--max-queued", type=_count, default=1000, help="calls that may wait (default: %(default)s)")
    price = "until an ended call has its price: 2, or 1:5 to draw between (default: 2)"
    parser.add_argument("--price-delay-s", type=_seconds, default=2.0, help=price)
    parser.add_argument("--fault", type=_fault, action="append", default=[], help=_FAULT)
    return parser.parse_args(arguments)


def configs(arguments: argparse.Namespace) -> list[CarrierConfig]:
    """The accounts, TWILIO_ACCOUNT_SID's first. Raises SimulatorError."""
    first = _config(arguments)
    listed = [entry.strip() for entry in os.environ.get("CALLFLEET_SIMULATOR_ACCOUNTS", "").split(",")]
    pairs = [entry.partition(":") for entry in listed if entry]
    if any(not sid or not token for sid, _, token in pairs):
        raise SimulatorError("CALLFLEET_SIMULATOR_ACCOUNTS must be SID:token, separated by commas")
    if len({first.account_sid, *(sid for sid, _, _ in pairs)}) <= len(pairs):
        raise SimulatorError("CALLFLEET_SIMULATOR_ACCOUNTS names an account twice")
    return [first, *(replace(first, account_sid=sid, auth_token=token, api_keys={}) for sid, _, token in pairs)]


def _config(arguments: argparse.Namespace) -> CarrierConfig:
    """The account, from the options and the environment. Raises SimulatorError."""
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
        calls_per_second=arguments.calls_per_second,
        max_queued=arguments.max_queued,
        price_delay_s=arguments.price_delay_s,
        seed=secrets.randbits(32) if arguments.seed is None else arguments.seed,
    )


def address(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8090` or `[::1]:8090` in its parts. Raises SimulatorError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise SimulatorError("--listen must be address:port, e.g. 127.0.0.1:8090")
    return host.strip("[]"), int(port)


def fault(text: str) -> Fault:
    """A fault as the command line writes it: a kind alone, or a mapping in YAML or JSON. Raises FaultError."""
    try:
        content = yaml.safe_load(text)
        return Fault.model_validate({"kind": content} if isinstance(content, str) else content)
    except yaml.YAMLError as error:
        raise FaultError(f"not a fault: {text}") from error
    except ValidationError as error:
        raise FaultError(f"{text} cannot be used:\n{readable(error)}") from error


def _fault(text: str) -> Fault:
    try:
        return fault(text)
    except FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("give a whole number, 1 to 1000000")
    return int(text)


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0.001 <= rate <= 1000:
        raise argparse.ArgumentTypeError("give calls a second, 0.001 to 1000")
    return rate


def _seconds(text: str) -> float | tuple[float, float]:
    low, _, high = text.partition(":")
    parts = (_number(low), _number(high or low))
    if not 0 <= parts[0] <= parts[1] <= 86_400:
        raise argparse.ArgumentTypeError("give seconds, or FROM:TO with FROM not larger than TO, at most 86400")
    return parts if high else parts[0]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
