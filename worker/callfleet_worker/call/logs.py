"""Libraries that log what people say are kept quiet; ours goes to stderr as everywhere."""

from __future__ import annotations

import logging

from loguru import logger as loguru_logger

from callfleet_core.logs import configure

_CHATTY = (
    "twilio",
    "twilio.http_client",
    "httpx",
    "httpcore",
    "websockets",
    "uvicorn",
    "aiohttp",
    "langgraph",
    "asyncio",
)


def quiet_libraries(level: str) -> None:
    """pipecat logs through loguru, with texts at DEBUG: only its errors pass, into the standard logging."""
    configure("worker-call", level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    loguru_logger.remove()
    loguru_logger.add(_forward, level="ERROR", format="{message}")


def _forward(message: object) -> None:
    logging.getLogger("pipecat").error(str(message).strip()[:500])
