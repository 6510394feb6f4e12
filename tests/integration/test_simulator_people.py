"""A whole spoken conversation: carrier, gateway, a call process that asks aloud, and a person who answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.integration.gateway_parts import dialing, open_large_books, row, running_gateway
from tests.integration.media_legs import call_process
from tests.integration.simulator_application import ACCOUNT, CALLER, TOKEN, sdk
from tests.integration.talking_agent import TalkingAgent, models_dir

from callfleet.hostservices import RedisServer
from callfleet_simulator.billing import started_minutes
from callfleet_simulator.carrier import Carrier, CarrierConfig
from callfleet_simulator.people import load_people
from callfleet_simulator.server import running
from callfleet_simulator.speech import Speech

pytestmark = [pytest.mark.speech, pytest.mark.timeout(240)]

SAMPLES = Path(__file__).parents[2] / "docs/samples"
HOUSE_HUNTER = "+15550100100"
EXPECTED = {
    "interested": ("yes",),
    "property": ("house",),
    "bedrooms": ("three", "3"),
    "budget": ("400", "four hundred"),
}


def script() -> dict[str, str]:
    """The demo campaign's questions, by name, in their first wording."""
    documents = yaml.safe_load_all((SAMPLES / "demo-campaign.yaml").read_text())
    campaign = next(document for document in documents if document["kind"] == "Campaign")
    agent = campaign["spec"]["agent"]
    questions = {question["name"]: question["ask"][0] for question in agent["questions"]}
    return {"opening": agent["opening"], "closing": agent["closing"], **questions}


@pytest.fixture
async def speech(tmp_path: Path) -> AsyncIterator[Speech]:
    people = load_people(SAMPLES / "demo-people.yaml")
    async with Speech(people, models_dir(), tmp_path / "lines", seed=7) as speech:
        yield speech


async def test_a_person_hears_the_questions_and_their_spoken_answers_are_understood(
    speech: Speech, engine: AsyncEngine, database_url: str, redis_server: RedisServer
) -> None:
    people = load_people(SAMPLES / "demo-people.yaml")
    books = await open_large_books(engine)
    asked = script()
    agent = TalkingAgent(speech, asked.pop("opening"), asked.pop("closing"), asked, most=4, expects=EXPECTED)
    carrier = Carrier(CarrierConfig(ACCOUNT, TOKEN, price_delay_s=0.1), people, speech.far_end)
    async with (
        running_gateway(database_url, redis_server.url, engine) as gateway,
        running(carrier) as simulator,
    ):
        attempt = await dialing(books)
        async with call_process(gateway, attempt, agent.handle):
            create = sdk(simulator.url).calls.create
            answer, status = f"{gateway.url}/twilio/voice/{attempt}", f"{gateway.url}/twilio/status/{attempt}"
            events = ["initiated", "ringing", "answered", "completed"]
            call = await asyncio.to_thread(
                create, to=HOUSE_HUNTER, from_=CALLER, url=answer, status_callback=status, status_callback_event=events
            )
            async with asyncio.timeout(120):
                while (found := await row(books, attempt))["state"] != "ended":  # noqa: ASYNC110 - a row
                    await asyncio.sleep(0.2)
        stats = carrier.stats()
    assert agent.answers.keys() == {"interested", "property", "bedrooms", "budget"}, agent.answers
    for name, words in EXPECTED.items():
        assert any(word in agent.answers[name].lower() for word in words), agent.answers
    assert found["end_status"] == "completed"
    assert carrier.find(call.sid).billed_minutes == started_minutes(found["duration_s"])
    assert isinstance(stats["replies"], int)
    assert stats["replies"] >= 4
    assert isinstance(stats["frame_late_ms_p99"], float)
    assert stats["frame_late_ms_p99"] >= 0  # reported; how late is for a benchmark to judge
