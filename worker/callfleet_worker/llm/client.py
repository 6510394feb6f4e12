"""Ollama, asked for short structured answers within a deadline; a failing server is left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx
import ollama
import structlog

POOL_SIZE = 10  # L1 of docs/requirements.md
REQUEST_TIMEOUT_S = 30.0
CONTEXT_TOKENS = 4_096
KEEP_ALIVE = "30m"
FAILURES_TO_OPEN = 5
OPEN_FOR_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Example:
    """One finished exchange, shown to the model before the question."""

    user: str
    assistant: str


class LlmUnavailableError(Exception):
    """The model gave no answer in time and a template took over; check OLLAMA_BASE_URL and the model's name."""


@dataclass
class LlmUsage:
    """Tokens used so far by one call."""

    tokens_in: int = 0
    tokens_out: int = 0


class CircuitBreaker:
    """Lets nothing through for `open_for_s` after so many failures in a row, then one try at a time."""

    def __init__(
        self,
        failures: int = FAILURES_TO_OPEN,
        open_for_s: float = OPEN_FOR_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._open_for_s, self._clock = failures, open_for_s, clock
        self._failed = 0
        self._open_until = 0.0

    @property
    def closed(self) -> bool:
        """Whether a request may be sent now."""
        return self._clock() >= self._open_until

    def succeeded(self) -> None:
        """A request was answered."""
        self._failed = 0

    def failed(self) -> None:
        """A request failed or came too late."""
        self._failed += 1
        if self._failed >= self._limit:
            self._open_until = self._clock() + self._open_for_s
            self._failed = self._limit - 1


class LlmClient:
    """One call's door to Ollama. Prompts and answers are never logged."""

    def __init__(self, base_url: str, model: str, *, api_key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=POOL_SIZE, max_keepalive_connections=POOL_SIZE)
        self._client = ollama.AsyncClient(host=base_url, headers=headers, timeout=REQUEST_TIMEOUT_S, limits=limits)
        self._model = model
        self._breaker = CircuitBreaker()
        self.usage = LlmUsage()

    async def ask(
        self,
        system: str,
        user: str,
        *,
        deadline_s: float,
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        examples: Sequence[Example] = (),
        stop: str | None = None,
    ) -> str:
        """The model's text (JSON when a schema is given); LlmUnavailableError after `deadline_s` at the latest.

        `examples` come before the question as finished exchanges; `stop` ends the text where it appears.
        """
        if not self._breaker.closed:
            raise LlmUnavailableError("the model failed repeatedly and is left alone for a minute")
        try:
            async with asyncio.timeout(deadline_s):
                answer = await self._client.chat(
                    model=self._model,
                    messages=_messages(system, examples, user),
                    format=dict(schema) if schema is not None else None,
                    options={
                        "temperature": 0,
                        "num_predict": max_tokens,
                        "num_ctx": CONTEXT_TOKENS,
                        "num_gpu": -1,
                        **({"stop": [stop]} if stop is not None else {}),
                    },
                    keep_alive=KEEP_ALIVE,
                )
        except (TimeoutError, httpx.HTTPError, ollama.ResponseError, ConnectionError) as error:
            self._breaker.failed()
            raise LlmUnavailableError(
                f"no answer from the model within {deadline_s} s ({type(error).__name__})"
            ) from error
        self._breaker.succeeded()
        self.usage.tokens_in += answer.prompt_eval_count or 0
        self.usage.tokens_out += answer.eval_count or 0
        return answer.message.content or ""

    async def warm_up(self) -> None:
        """Loads the model while the phone rings; a failure is only noted, for templates carry the call."""
        try:
            await self._client.generate(
                model=self._model,
                prompt="",
                keep_alive=KEEP_ALIVE,
                options={"num_ctx": CONTEXT_TOKENS, "num_gpu": -1},
            )
        except (httpx.HTTPError, ollama.ResponseError, ConnectionError) as error:
            _log.warning("the language model could not be warmed up", model=self._model, error=type(error).__name__)

    async def close(self) -> None:
        """Closes the connections."""
        await cast("Callable[[], Awaitable[None]]", self._client.close)()


def _messages(system: str, examples: Sequence[Example], user: str) -> list[dict[str, str]]:
    shown = [
        {"role": role, "content": text}
        for example in examples
        for role, text in (("user", example.user), ("assistant", example.assistant))
    ]
    return [{"role": "system", "content": system}, *shown, {"role": "user", "content": user}]
