"""The model's jobs with the real Ollama: that they run within their bounds; what a model decides is not its test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.unit.agents.scripts import TODAY, real_estate

from callfleet.hostservices import OllamaServer, ollama
from callfleet_worker.answers.parse import parse_answer
from callfleet_worker.llm.acknowledgement import MAX_WORDS, word_acknowledgement
from callfleet_worker.llm.client import LlmClient, LlmUnavailableError
from callfleet_worker.llm.opinion import second_opinion

pytestmark = pytest.mark.speech

QUESTIONS = {question.name: question for question in real_estate().questions}


@pytest.fixture(scope="module")
def server() -> Iterator[OllamaServer]:
    with ollama(proxy_on="127.0.0.1") as running:
        yield running


@pytest.fixture
async def client(server: OllamaServer) -> AsyncIterator[LlmClient]:
    assert server.proxy_url is not None
    made = LlmClient(server.proxy_url, server.model, api_key=server.token)
    await made.warm_up()
    yield made
    await made.close()


async def test_a_second_opinion_is_quoted_typed_or_nothing(client: LlmClient) -> None:
    heard = "Oh well, my wife and I would decide that together I suppose."
    answer = await second_opinion(client, QUESTIONS["decision"], heard, TODAY)
    assert answer is None or (answer.value in ("yes", "no") and answer.evidence.lower() in heard.lower())


async def test_what_it_costs_is_counted(client: LlmClient) -> None:
    await client.ask("Say hello.", "Hello.", deadline_s=60.0, max_tokens=4)
    assert client.usage.tokens_in > 5
    assert 0 < client.usage.tokens_out <= 4


async def test_a_number_from_the_model_is_a_number_in_the_transcript(client: LlmClient) -> None:
    heard = "There are my two boys and us, so for all of us, let's say four."
    answer = await second_opinion(client, QUESTIONS["bedrooms"], heard, TODAY)
    assert answer is None or parse_answer(QUESTIONS["bedrooms"], answer.evidence, TODAY) is not None


async def test_an_acknowledgement_is_short_or_absent(client: LlmClient) -> None:
    text = await word_acknowledgement(client, QUESTIONS["bedrooms"].ask[0], "Three bedrooms.", deadline_s=30.0)
    assert text is None or len(text.split()) <= MAX_WORDS


async def test_a_deadline_holds_against_the_real_server(client: LlmClient) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(LlmUnavailableError):
        await client.ask("Tell a long story.", "Begin.", deadline_s=0.05, max_tokens=400)
    assert asyncio.get_running_loop().time() - started < 4.0  # the story takes twice as long


async def test_a_missing_model_or_token_is_an_absent_model(server: OllamaServer) -> None:
    assert server.proxy_url is not None
    for client in (
        LlmClient(server.proxy_url, "no-such-model", api_key=server.token),
        LlmClient(server.proxy_url, server.model, api_key="wrong"),
    ):
        with pytest.raises(LlmUnavailableError):
            await client.ask("s", "u", deadline_s=10.0, max_tokens=4)
        await client.warm_up()
        await client.close()
