"""Structured logs, one JSON object a line. Secrets and personal data are never handed to a logger; as a second
line of defence, anything that looks like a phone number or a URL's password is masked before it is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_PHONE = re.compile(r"\+\d{7,15}\b")
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


def mask(text: str) -> str:
    """The text with phone numbers and passwords in URLs masked."""
    return _URL_PASSWORD.sub(r"\1***@", _PHONE.sub("+***", text))


def _mask_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = mask(value)
    return event


def configure(room: str, level: str = "INFO") -> None:
    """Sends structlog and the standard library's logs to stderr as JSON lines that name their room."""

    def name_room(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["room"] = room
        return event

    shared: list[structlog.typing.Processor] = [
        name_room,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _mask_event,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("kopf", "aiohttp.access", "httpx", "uvicorn.access", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
