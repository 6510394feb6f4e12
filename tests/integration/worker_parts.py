"""One worker over a real ledger, gateway, Redis and simulated carrier; and a person who hears with Whisper."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from pipecat.audio.utils import ulaw_to_pcm
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.books import ACCOUNT_SID, NAMESPACE, POD, RING, Books, number, open_books, register_carrier
from tests.integration.gateway_parts import running_gateway
from tests.integration.simulator_application import TOKEN

from callfleet.parts.api import models_folder
from callfleet_core.subjects import SAID
from callfleet_simulator.calls import Call
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import People, Person
from callfleet_simulator.server import Running, running
from callfleet_worker.speech.audio import TELEPHONE_RATE, WHISPER_RATE, Samples, level_db, resample, samples_of
from callfleet_worker.speech.clients import Recogniser, Speaker
from callfleet_worker.voice.upsample import ShortUpsampler

FRAME = TELEPHONE_RATE // 50
TURN_END_FRAMES = 30
AGENT_LEVEL_DB = -45.0
PEAK = 9_000


def models_dir() -> Path:
    """CALLFLEET_MODELS_DIR, or the parts' cache."""
    given = os.environ.get("CALLFLEET_MODELS_DIR")
    return Path(given) if given else models_folder()


@contextmanager
def speech_processes(run_dir: Path) -> Iterator[tuple[Path, Path]]:
    """A recogniser and a voice of the tests' own; yields their sockets, Whisper's first."""
    module, models = [sys.executable, "-m"], models_dir()
    whisper, piper = run_dir / "whisper.sock", run_dir / "piper.sock"
    commands = [
        [*module, "callfleet_worker.speech.whisper_server", "--socket", str(whisper), "--device", "cpu",
         "--model", str(models / "whisper-base")],
        [*module, "callfleet_worker.speech.piper_server", "--socket", str(piper),
         "--voice", str(models / "piper/en_US-joe-medium.onnx")],
    ]  # fmt: skip
    with ExitStack() as stack:
        for command in commands:
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield whisper, piper


@dataclass
class Talker:
    """Hears the agent (energy, then Whisper) and answers by keyword; `lines` maps a keyword to what is said.

    Hangs up after `hang_up_after` turns, or with the last sample of `last_words`.
    """

    speaker: Speaker
    recogniser: Recogniser
    lines: Sequence[tuple[str, str]]
    greeting: str | None = "Hello?"
    hang_up_after: int | None = None
    last_words: str | None = None
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    heard: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._out: deque[Samples] = deque()
        self._in: list[bytes] = []
        self._quiet = 0
        self._tasks = [asyncio.ensure_future(self._greet())]
        self._noise = np.random.default_rng(7)

    async def _greet(self) -> None:
        if self.greeting is not None:
            await asyncio.sleep(0.4)
            await self._say(self.greeting)

    async def _say(self, text: str) -> None:
        voice = samples_of(await self.speaker.speak(text)).astype(np.float64)
        voice = voice / max(1.0, float(np.abs(voice).max())) * PEAK
        pitched = resample(voice.astype(np.int16), TELEPHONE_RATE, int(TELEPHONE_RATE / 1.08))
        padded = np.concatenate([pitched, np.zeros(-len(pitched) % FRAME, dtype=np.int16)])
        self._out.extend(np.split(padded, len(padded) // FRAME))
        self.said.append(text)

    def speak(self) -> Any:
        if self._out:
            return self._out.popleft()
        if self.last_words is not None and self.last_words in self.said:
            self.hung_up.set()
        return None

    def sent(self, audible: bool) -> None:
        pass

    def hear(self, frame: bytes) -> None:
        loud = level_db(_pcm(frame)) > AGENT_LEVEL_DB
        self._quiet = 0 if loud else self._quiet + 1
        if loud or self._in:
            self._in.append(frame)
        if self._in and self._quiet == TURN_END_FRAMES:
            turn, self._in = b"".join(self._in), []
            self._tasks.append(asyncio.ensure_future(self._answer(turn)))

    async def _answer(self, turn: bytes) -> None:
        wide = resample(samples_of(_pcm(turn)), TELEPHONE_RATE, WHISPER_RATE)
        heard = await self.recogniser.decode(wide[: 27 * WHISPER_RATE].tobytes())
        self.heard.append(heard.text)
        if self.hang_up_after is not None and len(self.heard) >= self.hang_up_after:
            self.hung_up.set()
            return
        found = [(heard.text.lower().rfind(keyword), line) for keyword, line in self.lines]
        at, line = max(found)
        if at >= 0 and line:
            await self._say(line)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Mute:
    """Picks up, says nothing, and hangs up after a while."""

    def __init__(self, hangs_up_after_s: float) -> None:
        self.hung_up = asyncio.Event()
        asyncio.get_running_loop().call_later(hangs_up_after_s, self.hung_up.set)

    def speak(self) -> None:
        return None

    def hear(self, frame: bytes) -> None:
        pass

    def sent(self, audible: bool) -> None:
        pass

    async def aclose(self) -> None:
        pass


def _pcm(frame: bytes) -> bytes:
    coroutine = ulaw_to_pcm(frame, TELEPHONE_RATE, TELEPHONE_RATE, ShortUpsampler())
    try:
        coroutine.send(None)
    except StopIteration as done:
        return bytes(done.value)
    raise AssertionError("the conversion never waits")


@dataclass
class Stage:
    """Everything around one worker."""

    books: Books
    carrier: Running
    environment: dict[str, str]
    talkers: list[Talker]

    async def granted(self, script: dict[str, Any], *, contact: int = 0, **changes: Any) -> UUID:
        """An attempt that the ledger's own hold() granted to our pod."""
        return await self.books.held(contact, account_sid=ACCOUNT_SID, script=script, **changes)

    async def run_worker(self, attempt: UUID, *, timeout_s: float = 180.0) -> tuple[int, list[dict[str, Any]]]:
        """`python -m callfleet_worker --attempt …`: its exit code and the events it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "callfleet_worker", "--attempt", str(attempt), "--pod-uid", POD,
            env=self.environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            process.kill()
            raise
        return process.returncode or 0, [json.loads(line) for line in out.splitlines()]

    async def said(self, by: str, contact: int = 0) -> list[str]:
        """What the user or the assistant said to the contact, in order."""
        rows = await self.rows(
            "SELECT content FROM conversations WHERE message_type = CAST(:by AS text) ORDER BY seq", by=by
        )
        key = await self.books.key(contact)
        return [key.decrypt(SAID, bytes(row["content"])) for row in rows]

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """A query's rows."""
        async with self.books.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(statement), parameters)).mappings()]


@asynccontextmanager
async def worker_login(engine: AsyncEngine, database_url: str) -> AsyncIterator[str]:
    """The database as a worker sees it: a login that has the role callfleet_worker and nothing else."""
    name, password = f"worker_{uuid4().hex[:12]}", uuid4().hex
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE callfleet_worker"))
    url = make_url(database_url).set(username=name, password=password)
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP ROLE {name}"))


@asynccontextmanager
async def stage(
    engine: AsyncEngine,
    database_url: str,
    redis_url: str,
    person: Person,
    talker: dict[str, Any] | None = None,
    sockets: tuple[Path, Path] | None = None,
    *,
    silent: bool = False,
    **environment: str,
) -> AsyncIterator[Stage]:
    """A carrier with the person at both contacts' numbers, a gateway, and a ledger that knows all of them."""
    talkers: list[Talker] = []

    def far_end(_call: Call, far: Person) -> Any:
        if silent:
            return Mute(far.max_s)
        if sockets is None or talker is None:
            raise AssertionError("nobody was to pick up")
        talkers.append(Talker(Speaker(sockets[1]), Recogniser(sockets[0]), **talker))
        return talkers[-1]

    books = await open_books(engine, people=2)
    config = CarrierConfig(ACCOUNT_SID, TOKEN)
    async with (
        running(Carrier(config, People(people={number(0): person, number(1): person}), far_end)) as carrier,
        running_gateway(database_url, redis_url, engine) as gateway,
        worker_login(engine, database_url) as worker_url,
    ):
        await register_carrier(engine, api_base_url=carrier.url, public_url=gateway.url)
        passed = {name: value for name, value in os.environ.items() if not name.startswith(("TWILIO_", "OLLAMA_"))}
        env = {
            **passed, "DATABASE_URL": worker_url, "REDIS_URL": redis_url, "TWILIO_AUTH_TOKEN": TOKEN,
            "CALLFLEET_NAMESPACE_KEYS": RING.of_namespace(NAMESPACE).text(),
            "CALLFLEET_MODELS_DIR": str(models_dir()), "CALLFLEET_DEVICE": "cpu", **environment,
        }  # fmt: skip
        yield Stage(books, carrier, env, talkers)
