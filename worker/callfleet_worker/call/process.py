"""A call process: `python -m callfleet_worker.call.process --whisper SOCKET --piper SOCKET`.

It says `ready` once its libraries are loaded, waits for one attempt on stdin, reports what happens as JSON lines on
stdout, and ends with the call. A process never takes a second call.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import uvloop
from redis.asyncio import Redis

from callfleet_core.crypto import Keyring
from callfleet_core.db.engine import create_engine
from callfleet_core.dialing import DialStore
from callfleet_core.records import CallRecords
from callfleet_worker.call.leg import LegRegistry
from callfleet_worker.call.logs import quiet_libraries
from callfleet_worker.call.runner import CallEnd, CallRunner, Services
from callfleet_worker.settings import WorkerSettings
from callfleet_worker.speech.clients import Recogniser, Speaker
from callfleet_worker.speech.parent import die_with_parent

POOL_SIZE = 2
REDIS_TIMEOUT_S = 5.0
# LangGraph would send what people say to a tracing service if the environment happened to ask for it.
NO_TRACING = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "LANGGRAPH_TRACING": "false"}

_log = structlog.get_logger(__name__)


def main() -> None:
    """Loads, waits for an assignment, runs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--whisper", type=Path, required=True)
    parser.add_argument("--piper", type=Path, required=True)
    options = parser.parse_args()
    die_with_parent()
    os.environ.update(NO_TRACING)
    settings = WorkerSettings.model_validate({})
    quiet_libraries(os.environ.get("LOG_LEVEL", "INFO"))
    gc.freeze()  # what is loaded now stays: the collector need not look at it during the call
    _tell("ready", {})
    line = sys.stdin.readline()
    if not line.strip():
        return
    assignment = json.loads(line)
    uvloop.run(_call(settings, options.whisper, options.piper, UUID(assignment["attempt"]), assignment["pod_uid"]))


async def _call(settings: WorkerSettings, whisper: Path, piper: Path, attempt_id: UUID, pod_uid: str) -> None:
    engine = create_engine(
        settings.database_url.get_secret_value(), pool_size=POOL_SIZE, application="callfleet-worker"
    )
    redis = Redis.from_url(
        settings.redis_url.get_secret_value(),
        decode_responses=True,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )
    speaker = Speaker(piper)
    ring = Keyring.parse(settings.callfleet_namespace_keys.get_secret_value())
    services = Services(
        settings, DialStore(engine, ring), CallRecords(engine), LegRegistry(redis), Recogniser(whisper), speaker
    )
    runner = CallRunner(services, attempt_id, pod_uid, _tell)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
    structlog.contextvars.bind_contextvars(attempt=str(attempt_id))
    try:
        end = await runner.run()
        _tell("ended", as_json(end))
    except Exception:
        _tell("ended", {"end": "error"})
        raise
    finally:
        await speaker.close()
        await redis.aclose()
        await engine.dispose()


def as_json(end: CallEnd) -> dict[str, Any]:
    """A call's end without anything personal in it."""
    return {
        "end": end.end,
        "reason": end.reason,
        "call_sid": end.call_sid,
        "outcome": end.outcome.model_dump(mode="json") if end.outcome else None,
    }


def _tell(event: str, details: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _log.warning("the supervisor is gone and misses an event", missed=event)


if __name__ == "__main__":
    main()
