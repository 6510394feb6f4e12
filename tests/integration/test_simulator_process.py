"""The simulator as a process: it starts, answers, ends its calls when stopped, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import requests
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, running_application, sdk, until
from tests.integration.talking_agent import models_dir
from twilio.base.exceptions import TwilioRestException

from callfleet_simulator.server import listener

SILENT = 'people: {"+15550100100": {name: A, ring_s: 0.1}}'
TALKING = 'people: {"+15550100100": {name: A, greeting: "Hello?", script: [{hears: [budget], says: ["Ten."]}]}}'


MODULE = (sys.executable, "-m", "callfleet_simulator")
COMMAND = (sys.executable, "-m", "callfleet", "simulator")


@asynccontextmanager
async def process(
    tmp_path: Path, people: str, *options: str, start: tuple[str, ...] = MODULE, **environment: str
) -> AsyncIterator[tuple[Process, str]]:
    file = tmp_path / "people.yaml"
    file.write_text(people)
    bound = listener("127.0.0.1", 0)
    address = f"127.0.0.1:{bound.getsockname()[1]}"
    bound.close()
    variables = {"PATH": os.environ["PATH"], "TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN, **environment}
    command = [*start, "--people", str(file), "--listen", address, *options]
    started = await asyncio.create_subprocess_exec(*command, env=variables, stderr=PIPE)
    try:
        await until(lambda: _healthy(f"http://{address}"), 60)
        yield started, f"http://{address}"
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


async def test_sigterm_ends_live_calls_and_delivers_their_callbacks(tmp_path: Path) -> None:
    async with running_application(twiml='<Response><Pause length="60"/></Response>') as application:
        async with process(tmp_path, SILENT) as (simulator, url):
            await asyncio.to_thread(
                lambda: sdk(url).calls.create(
                    to="+15550100100",
                    from_=CALLER,
                    url=application.url + "/voice",
                    status_callback=application.url + "/status",
                    status_callback_event=["answered", "completed"],
                )
            )
            await until(lambda: len(application.callbacks) == 1)
            simulator.send_signal(signal.SIGTERM)
            _, log = await asyncio.wait_for(simulator.communicate(), 15)
        assert [form["CallStatus"] for form in application.callbacks] == ["in-progress", "completed"]
    assert simulator.returncode == 0
    assert "+15550100100" not in log.decode()
    assert TOKEN not in log.decode()


async def test_stats_need_the_account(tmp_path: Path) -> None:
    async with process(tmp_path, SILENT) as (_, url), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.get("/simulator/stats")).status_code == 401
        stats = (await client.get("/simulator/stats", auth=(ACCOUNT, TOKEN))).json()
    assert stats["calls"] == {}
    assert stats["billed_micros"] == {"calls_outbound": 0, "media_streams": 0, "machine_detection": 0}


async def test_the_command_takes_the_pace_and_faults_from_its_options_and_the_people_file(tmp_path: Path) -> None:
    people = SILENT + "\nfaults: [{kind: tooManyRequests}]"
    options = ("--calls-per-second", "0.1", "--fault", "lostReply", "--fault", "{kind: latePrice, probability: 0.5}")
    async with process(tmp_path, people, *options, start=COMMAND) as (simulator, url):
        async with httpx.AsyncClient(base_url=url, auth=(ACCOUNT, TOKEN), trust_env=False) as client:
            faults = (await client.get("/simulator/faults")).json()["faults"]
        assert [fault["kind"] for fault in faults] == ["tooManyRequests", "lostReply", "latePrice"]
        create = sdk(url).calls.create
        with pytest.raises(TwilioRestException):
            await asyncio.to_thread(create, to="+15550100100", from_=CALLER, url="http://127.0.0.1:9/")
        with pytest.raises(requests.exceptions.ConnectionError):
            await asyncio.to_thread(create, to="+15550100100", from_=CALLER, url="http://127.0.0.1:9/")
        waiting = await asyncio.to_thread(create, to="+15550100100", from_=CALLER, url="http://127.0.0.1:9/")
        assert int(waiting.queue_time) > 5000
        simulator.send_signal(signal.SIGINT)
        await asyncio.wait_for(simulator.communicate(), 15)
    assert simulator.returncode == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fault", "earthquake"], "earthquake"),
        (["--fault", "{kind: lostReply, status: 500}"], "lostReply has no status"),
        (["--price-delay-s", "5:2"], "FROM:TO"),
        (["--calls-per-second", "0"], "calls a second"),
        (["--people", "nobody.yaml"], "nobody.yaml"),
    ],
)
async def test_a_wrong_option_is_told(tmp_path: Path, options: list[str], told: str) -> None:
    file = tmp_path / "people.yaml"
    file.write_text(SILENT)
    environment = {"PATH": os.environ["PATH"], "TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": TOKEN}
    command = [*COMMAND, "--people", str(file), *options]
    started = await asyncio.create_subprocess_exec(*command, env=environment, stderr=PIPE)
    _, log = await asyncio.wait_for(started.communicate(), 60)
    assert started.returncode == 2
    assert told in log.decode()


@pytest.mark.speech
@pytest.mark.parametrize("end", [Process.terminate, Process.kill])
async def test_the_speech_processes_end_with_the_simulator(tmp_path: Path, end: Callable[[Process], None]) -> None:
    async with process(tmp_path, TALKING, CALLFLEET_MODELS_DIR=str(models_dir())) as (simulator, _):
        children = psutil.Process(simulator.pid).children(recursive=True)
        assert len(children) == 2
        end(simulator)
        await asyncio.wait_for(simulator.wait(), 15)
        await until(lambda: not any(_alive(child) for child in children), 10)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
