"""A customer's application for the simulator's tests: TwiML, signed callbacks, a media server. Loopback only."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from callfleet_simulator.server import listener, serving

ACCOUNT = "AC" + "0" * 32
TOKEN = "a-made-up-token"
CALLER = "+15550100001"

Talk = Callable[["Leg"], Awaitable[None]]


@dataclass
class Leg:
    """One accepted media stream."""

    socket: WebSocket
    stream_sid: str
    start: dict[str, Any]

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.socket.receive_text())
        return message

    async def send(self, event: str, **body: Any) -> None:
        await self.socket.send_text(json.dumps({"event": event, "streamSid": self.stream_sid, **body}))

    async def play(self, audio: bytes) -> None:
        await self.send("media", media={"payload": base64.b64encode(audio).decode()})


@dataclass
class Application:
    """What it was asked, and what it answers."""

    twiml: str = "<Response><Hangup/></Response>"
    talk: Talk | None = None
    url: str = ""
    callbacks: list[dict[str, str]] = field(default_factory=list)
    twiml_requests: list[dict[str, str]] = field(default_factory=list)
    amd_callbacks: list[dict[str, str]] = field(default_factory=list)
    bad_signatures: int = 0
    fail_callbacks: int = 0

    def stream_twiml(self, then: str = "") -> str:
        stream = self.url.replace("http://", "ws://") + "/media"
        inner = f'<Stream url="{stream}"><Parameter name="leg" value="7"/></Stream>'
        return f"<Response><Connect>{inner}</Connect>{then}</Response>"

    async def form(self, request: Request) -> dict[str, str]:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        url = self.url + request.url.path
        if not RequestValidator(TOKEN).validate(url, form, request.headers.get("x-twilio-signature", "")):
            self.bad_signatures += 1
        return form

    def asgi(self) -> FastAPI:
        app = FastAPI()

        @app.post("/voice")
        async def voice(request: Request) -> Response:
            self.twiml_requests.append(await self.form(request))
            return Response(self.twiml or self.stream_twiml(), media_type="text/xml")

        @app.post("/status")
        async def status(request: Request) -> Response:
            form = await self.form(request)
            if self.fail_callbacks:
                self.fail_callbacks -= 1
                return Response(status_code=503)
            self.callbacks.append(form)
            return Response(status_code=204)

        @app.post("/amd")
        async def amd(request: Request) -> Response:
            self.amd_callbacks.append(await self.form(request))
            return Response(status_code=204)

        @app.websocket("/media")
        async def media(socket: WebSocket) -> None:
            url = self.url.replace("http://", "ws://") + "/media"
            if not RequestValidator(TOKEN).validate(url, {}, socket.headers.get("x-twilio-signature", "")):
                self.bad_signatures += 1
            await socket.accept()
            assert json.loads(await socket.receive_text())["event"] == "connected"
            started = json.loads(await socket.receive_text())
            assert self.talk is not None
            try:
                await self.talk(Leg(socket, started["streamSid"], started["start"]))
            except WebSocketDisconnect:
                return

        return app


@asynccontextmanager
async def running_application(**kwargs: Any) -> AsyncIterator[Application]:
    bound = listener("127.0.0.1", 0)
    application = Application(url=f"http://127.0.0.1:{bound.getsockname()[1]}", **kwargs)
    async with serving(application.asgi(), bound):
        yield application


def sdk(url: str, token: str = TOKEN, user: str = ACCOUNT, http_client: Any = None) -> Client:
    """The real SDK, pointed at the simulator. `environment` must not be empty or it falls back to the process's."""
    client = Client(user, token, account_sid=ACCOUNT, http_client=http_client, environment={"CALLFLEET": "test"})
    client.api.base_url = url
    return client


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits for a condition on the world."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the world has no event to wait for
            await asyncio.sleep(0.01)


EVENTS = ["initiated", "ringing", "answered", "completed"]


async def place(simulator_url: str, application: Application, to: str, **options: Any) -> Any:
    """A call through the real SDK, with every callback asked for."""
    settings = {
        "url": application.url + "/voice",
        "status_callback": application.url + "/status",
        "status_callback_event": EVENTS,
        **options,
    }
    return await asyncio.to_thread(sdk(simulator_url).calls.create, to=to, from_=CALLER, **settings)
