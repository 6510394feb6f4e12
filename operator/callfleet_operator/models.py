"""The language models that campaigns ask for, on every Ollama server of the installation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import httpx
import ollama
import structlog

from callfleet_operator.plan.model import ModelState, full_name

# A model is looked for again after so long; a server that did not answer is asked sooner: calls may wait for it.
LOOK_AGAIN_S: Final = 60.0
UNREACHABLE_AGAIN_S: Final = 10.0
# One that could not be pulled is pulled again after this, and after twice as long each time.
FIRST_PULL_PAUSE_S: Final = 60.0
LONGEST_PULL_PAUSE_S: Final = 600.0
UNREACHABLE: Final = "Unreachable"
_REQUEST_TIMEOUT_S: Final = 10.0
# Between two words of a pull's progress; a layer may take hours.
_PULL_SILENCE_S: Final = 120.0
_PULLS_AT_ONCE: Final = 2
_STEP_PERCENT: Final = 10
# Where Ollama's client goes when a URL names no port; without a scheme, to Ollama's own.
_PORTS: Final = {"http": 80, "https": 443}
_OWN_PORT: Final = 11434
_FAILURES: Final = (ollama.ResponseError, httpx.HTTPError, ConnectionError, TimeoutError, ValueError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Failure:
    """What is said of a model whose pull failed, how often it has, and when it may be pulled again (loop time)."""

    state: ModelState
    times: int
    again_s: float


class Models:
    """What is known of each model that some campaign asks for. `changed` is called when a Campaign would say more.

    Without servers everything counts as ready: nothing is known, and nothing is pulled.
    """

    def __init__(self, servers: Iterable[str], api_key: str | None, changed: Callable[[str], None]) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._servers = {url: ollama.AsyncClient(host=url, headers=headers, timeout=None) for url in servers}
        self._changed = changed
        self._states: dict[str, ModelState] = {}
        self._looked_s: dict[str, float] = {}
        self._failures: dict[str, _Failure] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_PULLS_AT_ONCE)

    def of(self, model: str) -> ModelState:
        """What is known of a model."""
        if not self._servers:
            return ModelState(ready=True)
        return self._states.get(model, ModelState(ready=False, reason="Looking", message=f"looking for {model}"))

    def is_new(self, model: str) -> bool:
        """True while nobody has looked for it."""
        return bool(self._servers) and model not in self._states

    async def look(self, wanted: Iterable[str]) -> None:
        """Looks for the wanted models, begins to pull what is missing, and ends pulls of what nobody wants any more."""
        names = set(wanted)
        await self._end_pulls(set(self._pulls) - names)
        for model in set(self._states) - names:
            del self._states[model]
            self._looked_s.pop(model, None)
            self._failures.pop(model, None)
        now_s = asyncio.get_running_loop().time()
        for model in sorted(names):
            again_s = UNREACHABLE_AGAIN_S if self.of(model).reason == UNREACHABLE else LOOK_AGAIN_S
            due = now_s - self._looked_s.get(model, -LOOK_AGAIN_S) >= again_s
            if self._servers and due and model not in self._pulls:
                self._looked_s[model] = now_s
                await self._look(model)

    async def close(self) -> None:
        """Ends pulls and connections."""
        await self._end_pulls(set(self._pulls))
        for client in self._servers.values():
            await cast("Callable[[], Awaitable[None]]", client.close)()

    async def _end_pulls(self, models: set[str]) -> None:
        """A server ends a pull that nobody follows, and resumes it where it was when it is asked for again."""
        tasks = [self._pulls[model] for model in models]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, model: str) -> None:
        missing = await self._missing(model)
        if not missing:
            return
        failure = self._failures.get(model)
        if failure is not None and asyncio.get_running_loop().time() < failure.again_s:
            self._say(model, failure.state)
            return
        self._say(model, ModelState(False, "Pulling", f"pulling {model}"))
        task = self._pulls[model] = asyncio.create_task(self._pull(model, missing))
        task.add_done_callback(partial(self._pull_ended, model))

    async def _missing(self, model: str) -> list[str]:
        """The servers without the model; none, and that is said, where all have it or one does not answer."""
        missing = []
        for url, client in self._servers.items():
            try:
                if not await _has(client, model):
                    missing.append(url)
            except _FAILURES as error:
                message = f"Ollama at {address_of(url)} does not answer ({_short(error)})"
                self._say(model, ModelState(False, UNREACHABLE, message))
                return []
        if not missing:
            self._failures.pop(model, None)
            self._say(model, ModelState(ready=True))
        return missing

    async def _pull(self, model: str, servers: list[str]) -> None:
        async with self._room:
            for place, url in enumerate(servers, start=1):
                which = f", server {place} of {len(servers)}" if len(servers) > 1 else ""
                try:
                    async for percent in _progress(self._servers[url], model):
                        self._say(model, ModelState(False, "Pulling", f"pulling {model}: {percent} %{which}"))
                except _FAILURES as error:
                    self._pull_failed(model, url, _short(error))
                    return
        _log.info("model pulled", model=model)
        if still := await self._missing(model):
            why = "it was pulled, and is listed by another name: ask for it by that of `ollama list`"
            self._pull_failed(model, still[0], why)

    def _pull_failed(self, model: str, url: str, why: str) -> None:
        times = self._failures[model].times + 1 if model in self._failures else 1
        pause_s = min(LONGEST_PULL_PAUSE_S, FIRST_PULL_PAUSE_S * 2 ** min(times - 1, 10))
        server = address_of(url)
        _log.warning("model not pulled", model=model, server=server, error=why, retry_in_s=pause_s)
        state = ModelState(False, "PullFailed", f"{model} cannot be pulled on {server} ({why})")
        self._failures[model] = _Failure(state, times, asyncio.get_running_loop().time() + pause_s)
        self._say(model, state)

    def _pull_ended(self, model: str, task: asyncio.Task[None]) -> None:
        if self._pulls.get(model) is task:
            del self._pulls[model]

    def _say(self, model: str, state: ModelState) -> None:
        if self._states.get(model) != state:
            self._states[model] = state
            self._changed(model)


def address_of(url: str) -> str:
    """A server by host and port; a URL may hold a password, too."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    host = parts.netloc.rpartition("@")[2]
    return host if parts.port else f"{host.removesuffix(':')}:{_PORTS.get(parts.scheme, _OWN_PORT)}"


async def _has(client: ollama.AsyncClient, model: str) -> bool:
    async with asyncio.timeout(_REQUEST_TIMEOUT_S):
        listed = await client.list()
    return full_name(model) in {item.model for item in listed.models}


async def _progress(client: ollama.AsyncClient, model: str) -> AsyncIterator[int]:
    """A pull's progress in percent of the layer at hand, in coarse steps: each may be a write of a status."""
    words = aiter(await client.pull(model, stream=True))
    said = -1
    while True:
        try:
            async with asyncio.timeout(_PULL_SILENCE_S):
                word = await anext(words)
        except StopAsyncIteration:
            return
        if word.total:
            percent = 100 * (word.completed or 0) // word.total // _STEP_PERCENT * _STEP_PERCENT
            if percent != said:
                said = percent
                yield percent


def _short(error: BaseException) -> str:
    """An error in a few words; a server's own are its users' to read, the client's are advice for somebody's desk."""
    if isinstance(error, ConnectionError):
        return "no connection"
    said = error.error if isinstance(error, ollama.ResponseError) else str(error)
    return next(iter(said.strip().splitlines()), type(error).__name__)[:160]
