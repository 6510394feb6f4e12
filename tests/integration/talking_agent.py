"""A small call process for the simulator's tests: asks its questions aloud, hears the answers, hangs up."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from callfleet.parts.api import models_folder
from callfleet_simulator.audio import FRAME_SAMPLES, Pcm, to_mulaw
from callfleet_simulator.people import Voice
from callfleet_simulator.speech import Speech
from callfleet_simulator.turns import Sound, Turns

AGENT_VOICE = Voice(length_scale=1.0, pitch=1.0)
ANSWER_TIMEOUT_S = 20.0
YES_HOUSE = ["interested", "property", "bedrooms", "budget", "timeline", "decision_maker", "mortgage"]
YES_FLAT = [name if name != "bedrooms" else "parking" for name in YES_HOUSE]
NO = ["interested", "callback", "referral", "owner"]


def models_dir() -> Path:
    """CALLFLEET_MODELS_DIR, or the parts' cache."""
    given = os.environ.get("CALLFLEET_MODELS_DIR")
    return Path(given) if given else models_folder()


@dataclass
class TalkingAgent:
    """Talks on one media socket; `answers` maps each question's name to what it heard."""

    speech: Speech
    opening: str
    closing: str
    questions: dict[str, str]
    answers: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    most: int = 20
    expects: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # words that an answer must have, else it asks again

    async def handle(self, socket: ServerConnection) -> None:
        """The call process's side of one call."""
        self._socket, self._turns, self._ended = socket, Turns(), asyncio.Event()
        listening = asyncio.create_task(self._listen())
        try:
            await self._converse()
            await socket.close()
        except ConnectionClosed:
            pass  # the person hung up: what was heard until then is the result
        finally:
            listening.cancel()

    async def _converse(self) -> None:
        await asyncio.sleep(1.5)  # a greeting may come
        opening = f"{self.opening} "
        asked = 0
        while (name := self._next()) is not None and asked < self.most:
            for attempt in range(3):
                heard = await self._ask(opening + self.questions[name])
                opening = "" if attempt else "Sorry. "
                if heard is not None and not _asks_back(heard) and self._fits(name, heard):
                    break
            self.answers[name] = heard or ""
            opening, asked = "Thank you. ", asked + 1
        await self._say(self.closing)

    def _fits(self, name: str, heard: str) -> bool:
        """Piper draws each rendering, and Whisper errs on some: a real agent asks again too."""
        wanted = self.expects.get(name, ())
        return not wanted or any(word in heard.lower() for word in wanted)

    def _next(self) -> str | None:
        path = NO if self.answers.get("interested", "").lower().startswith("no") else YES_HOUSE
        if path is YES_HOUSE and "house" not in self.answers.get("property", "house").lower().replace("townhouse", ""):
            path = YES_FLAT
        return next((name for name in path if name not in self.answers), None)

    async def _ask(self, text: str) -> str | None:
        await self._say(text)
        self._turns.forget()
        self._ended.clear()
        try:
            await asyncio.wait_for(self._ended.wait(), ANSWER_TIMEOUT_S)
        except TimeoutError:
            return None
        return await self.speech.words(self._turns.heard())

    async def _say(self, text: str) -> None:
        self.said.append(text)
        pcm = await self.speech.line(text, AGENT_VOICE)
        began = asyncio.get_running_loop().time()
        for number, frame in enumerate(_frames(pcm), start=1):
            payload = base64.b64encode(to_mulaw(frame)).decode()
            await self._send("media", media={"payload": payload})
            await asyncio.sleep(max(0.0, began + number * 0.02 - asyncio.get_running_loop().time()))

    async def _send(self, event: str, **body: Any) -> None:
        await self._socket.send(json.dumps({"event": event, "streamSid": self._stream, **body}))

    async def _listen(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if message["event"] == "start":
                self._stream = message["start"]["streamSid"]
            elif message["event"] == "media":
                sound = self._turns.feed(base64.b64decode(message["media"]["payload"]))
                if sound is Sound.ENDED:
                    self._ended.set()


def _frames(pcm: Pcm) -> list[Pcm]:
    whole = len(pcm) - len(pcm) % FRAME_SAMPLES
    return [pcm[at : at + FRAME_SAMPLES] for at in range(0, whole, FRAME_SAMPLES)]


def _asks_back(heard: str) -> bool:
    return any(word in heard.lower() for word in ("sorry", "excuse me", "repeat", "what did you"))
