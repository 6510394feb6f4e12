"""Models on the installation's servers: a real Ollama, and scripted ones where a model must be pulled from afar."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from structlog.testing import capture_logs
from tests.integration.apiserver import free_port
from tests.integration.operator_parts import until

from callfleet.hostservices import OllamaServer, ollama
from callfleet_operator import models as models_module
from callfleet_operator.models import Models
from callfleet_operator.plan.model import ModelState

KEY = "a-made-up-key"


@pytest.fixture(scope="module")
def real() -> Iterator[OllamaServer]:
    with ollama() as server:
        yield server


@dataclass
class Told:
    """What was said of a model, in order."""

    states: list[ModelState] = field(default_factory=list)
    models: Models | None = None

    def changed(self, model: str) -> None:
        assert self.models is not None
        self.states.append(self.models.of(model))


@asynccontextmanager
async def keeper(*urls: str, key: str | None = None) -> AsyncIterator[tuple[Models, Told]]:
    told = Told()
    models = told.models = Models(urls, key, told.changed)
    try:
        yield models, told
    finally:
        await models.close()


async def settled(models: Models, model: str, within_s: float = 90.0) -> ModelState:
    """A model's state once no pull is on its way."""
    async with asyncio.timeout(within_s):
        while models.of(model).reason in {"Looking", "Pulling"} and not models.of(model).ready:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.05)
    return models.of(model)


async def test_a_model_that_is_there_is_ready_at_once(real: OllamaServer) -> None:
    async with keeper(real.url) as (models, told):
        assert models.is_new(real.model)
        await models.look([real.model])
        assert models.of(real.model).ready
        assert not models.is_new(real.model)
        assert told.states == [ModelState(ready=True)]


@pytest.mark.parametrize("place", ["library", "registry.ollama.ai/library"])
async def test_a_model_by_its_full_name_is_the_one_that_is_listed_by_its_short_one(
    real: OllamaServer, place: str
) -> None:
    name = f"{place}/{real.model}"
    async with keeper(real.url) as (models, told):
        await models.look([name])
        assert models.of(name).ready
        assert told.states == [ModelState(ready=True)]


async def test_a_model_that_nobody_has_says_that_it_cannot_be_pulled(real: OllamaServer) -> None:
    missing = "callfleet-has-no-such-model:1b"
    async with keeper(real.url) as (models, _):
        await models.look([missing])
        assert models.of(missing).reason == "Pulling"
        state = await settled(models, missing)
        assert (state.ready, state.reason) == (False, "PullFailed")
        assert state.message.startswith(f"{missing} cannot be pulled on {urlsplit(real.url).netloc} (")


async def test_a_server_that_does_not_answer_is_named_as_the_trouble_in_the_same_words_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models_module, "UNREACHABLE_AGAIN_S", 0.0)
    async with scripted() as (url, server), keeper(url, "http://ada:secret@127.0.0.1:9", key=KEY) as (models, told):
        server.models.add("m:latest")
        for _ in range(3):
            await models.look(["m"])
        message = "Ollama at 127.0.0.1:9 does not answer (no connection)"
        assert told.states == [ModelState(False, "Unreachable", message)]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://ollama-1:11434/", "ollama-1:11434"),
        ("https://ada:se@cret@models.example.com/gpu?token=secret", "models.example.com:443"),
        ("http://[2001:db8::1]", "[2001:db8::1]:80"),
        ("ollama-1", "ollama-1:11434"),
    ],
)
async def test_a_server_is_told_by_host_and_port_and_nothing_else_of_its_url(url: str, told: str) -> None:
    assert models_module.address_of(url) == told


@asynccontextmanager
async def doorway(port: int, url: str) -> AsyncIterator[None]:
    """A port that leads to a server elsewhere, while it is open."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer))

    async with await asyncio.start_server(enter, "127.0.0.1", port):
        yield


async def test_a_server_that_is_back_is_asked_again_sooner_than_one_that_answered(real: OllamaServer) -> None:
    port = free_port()
    async with keeper(f"http://127.0.0.1:{port}") as (models, told):
        await models.look([real.model])
        assert [state.reason for state in told.states] == ["Unreachable"]
        async with doorway(port, real.url):
            await models.look([real.model])
            assert not models.of(real.model).ready  # it is not asked all the time
            async with asyncio.timeout(models_module.UNREACHABLE_AGAIN_S + 5):
                while not models.of(real.model).ready:
                    await models.look([real.model])
                    await asyncio.sleep(0.1)
            await models.close()


async def test_without_servers_every_model_is_taken_to_be_there() -> None:
    async with keeper() as (models, _):
        await models.look(["m"])
        assert models.of("m").ready
        assert not models.is_new("m")


@dataclass
class Scripted:
    """An Ollama that pulls what it is asked for in five steps, or breaks off with an error.

    `pulls` that have begun, and those whose asker has `left` before their end.
    """

    models: set[str] = field(default_factory=set)
    error: str | None = None
    listed_as: str | None = None
    pulls: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def tags(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": "unauthorized"}, status=401)
        return web.json_response({"models": [{"model": name} for name in self.models]})

    async def pull(self, request: web.Request) -> web.StreamResponse:
        model = (await request.json())["model"]
        self.pulls.append(model)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        words: list[dict[str, object]] = [{"status": "pulling manifest"}]
        words += [{"status": "pulling", "total": 500, "completed": 100 * step + 3} for step in range(5)]
        for word in words:
            await answer.write(json.dumps(word).encode() + b"\n")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left.append(model)
            raise
        if self.error is None:
            self.models.add(f"{self.listed_as or model}:latest")
        last = {"status": "success"} if self.error is None else {"error": self.error}
        await answer.write(json.dumps(last).encode() + b"\n")
        return answer


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[str, Scripted]]:
    server = Scripted()
    application = web.Application()
    application.add_routes([web.get("/api/tags", server.tags), web.post("/api/pull", server.pull)])
    runner = web.AppRunner(application, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}", server
    finally:
        server.go.set()
        await runner.cleanup()


async def test_a_model_is_pulled_on_every_server_and_says_how_far_it_is() -> None:
    async with scripted() as (first_url, first), scripted() as (second_url, second):
        async with keeper(first_url, second_url, key=KEY) as (models, told):
            first.models.add("new:latest")
            second.go.set()
            await models.look(["new"])
            assert (await settled(models, "new")).ready
        assert (first.pulls, second.pulls) == ([], ["new"])
        said = [state.message for state in told.states]
        assert said[:3] == ["pulling new", "pulling new: 0 %", "pulling new: 20 %"]
        assert told.states[-1] == ModelState(ready=True)


async def test_it_is_ready_only_when_the_last_server_has_it() -> None:
    async with scripted() as (first_url, first), scripted() as (second_url, second):
        async with keeper(first_url, second_url, key=KEY) as (models, told):
            first.go.set()
            await models.look(["new"])
            with suppress(TimeoutError):
                await settled(models, "new", within_s=1)
            assert not models.of("new").ready
            assert models.of("new").message == "pulling new: 80 %, server 2 of 2"
            assert (first.pulls, second.pulls) == (["new"], ["new"])
            await models.look(["new"])  # one pull at a time
            second.go.set()
            assert (await settled(models, "new")).ready
        assert (first.pulls, second.pulls) == (["new"], ["new"])
        assert "pulling new: 80 %, server 1 of 2" in [state.message for state in told.states]


async def test_a_pull_that_breaks_off_is_a_failure_in_the_servers_own_words() -> None:
    async with scripted() as (url, server):
        async with keeper(url, key=KEY) as (models, _):
            server.error = "no space left on device"
            server.go.set()
            await models.look(["new"])
            state = await settled(models, "new")
        said = f"new cannot be pulled on {urlsplit(url).netloc} (no space left on device)"
        assert (state.reason, state.message) == ("PullFailed", said)


async def test_the_server_that_cannot_pull_is_named_beside_one_that_can() -> None:
    async with scripted() as (able_url, able), scripted() as (full_url, full):
        with capture_logs() as logs:
            async with keeper(able_url, full_url, key=KEY) as (models, _):
                full.error = "no space left on device"
                able.go.set()
                full.go.set()
                await models.look(["new"])
                state = await settled(models, "new")
        place = urlsplit(full_url).netloc
        assert state.message == f"new cannot be pulled on {place} (no space left on device)"
        assert [item["server"] for item in logs if item["event"] == "model not pulled"] == [place]


async def test_a_model_that_nobody_asks_for_any_more_is_forgotten() -> None:
    async with scripted() as (url, server):
        server.models.add("old:latest")
        async with keeper(url, key=KEY) as (models, _):
            await models.look(["old"])
            assert models.of("old").ready
            await models.look([])
            assert models.is_new("old")


async def test_a_pull_that_nobody_waits_for_any_more_ends_and_makes_room_for_others() -> None:
    async with scripted() as (url, server), keeper(url, key=KEY) as (models, _):
        await models.look(["huge", "huger", "small"])
        await until(lambda: server.pulls == ["huge", "huger"])  # no more at once
        await models.look(["small"])
        await until(lambda: server.pulls[2:] == ["small"])
        await until(lambda: sorted(server.left) == ["huge", "huger"])
        await models.look(["huge"])  # somebody wants it again, and nobody the small one
        await until(lambda: server.left[2:] == ["small"])
        await until(lambda: server.pulls[3:] == ["huge"])
        server.go.set()
        assert (await settled(models, "huge")).ready


async def test_a_pull_that_brings_another_name_fails_and_is_tried_again_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scripted() as (url, server), keeper(url, key=KEY) as (models, told):
        server.listed_as = "another"
        server.go.set()
        monkeypatch.setattr(models_module, "LOOK_AGAIN_S", 0.0)
        monkeypatch.setattr(models_module, "FIRST_PULL_PAUSE_S", 0.2)
        loop, begun_s = asyncio.get_running_loop(), list[float]()
        async with asyncio.timeout(20):
            while len(begun_s) < 4:
                await models.look(["new"])
                if len(server.pulls) > len(begun_s):
                    begun_s.append(loop.time())
                await asyncio.sleep(0.01)
        assert (await settled(models, "new")).reason == "PullFailed"
        assert f" on {urlsplit(url).netloc} (it was pulled, and is listed by another" in models.of("new").message
        pauses_s = [later - earlier for earlier, later in pairwise(begun_s)]
        assert [pause_s >= least_s for pause_s, least_s in zip(pauses_s, (0.2, 0.4, 0.8), strict=True)] == [True] * 3
        server.models.add("new:latest")  # by hand: that is not waited for
        await models.look(["new"])
        assert told.states[-1] == ModelState(ready=True)


async def test_a_wrong_key_is_the_servers_refusal() -> None:
    async with scripted() as (url, _), keeper(url, key="another") as (models, _told):
        await models.look(["m"])
        assert models.of("m").reason == "Unreachable"
        assert models.of("m").message == f"Ollama at {urlsplit(url).netloc} does not answer (unauthorized)"
