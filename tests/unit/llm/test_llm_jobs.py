"""The model's jobs: a real HTTP client against a scripted Ollama-compatible server, the guard, the breaker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agents.scripts import TODAY, real_estate

from callfleet_worker.llm.acknowledgement import guarded
from callfleet_worker.llm.client import CircuitBreaker, LlmClient, LlmUnavailableError
from callfleet_worker.llm.opinion import checked, schema_for, second_opinion

QUESTIONS = {question.name: question for question in real_estate().questions}


@asynccontextmanager
async def scripted_ollama(
    content: str, *, delay_s: float = 0.0, key: str | None = None
) -> AsyncIterator[tuple[str, list[Any]]]:
    """A loopback server that speaks /api/chat as Ollama does; yields its URL and the requests it got."""
    requests: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(
            next(line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length"))
        )
        requests.append(json.loads(await reader.readexactly(length)))
        await asyncio.sleep(delay_s)
        allowed = key is None or f"Authorization: Bearer {key}".lower() in head.lower()
        body = json.dumps(
            {
                "model": "m",
                "message": {"role": "assistant", "content": content},
                "done": True,
                "prompt_eval_count": 50,
                "eval_count": 9,
            }
            if allowed
            else {"error": "unauthorized"}
        ).encode()
        status = "200 OK" if allowed else "401 Unauthorized"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests


async def test_an_answer_comes_back_under_the_schema_and_is_counted() -> None:
    content = json.dumps({"evidence": "around Easter time", "value": "Easter"})
    async with scripted_ollama(content, key="made-up") as (url, requests):
        client = LlmClient(url, "m", api_key="made-up")
        answer = await second_opinion(client, QUESTIONS["timeline"], "Oh, around Easter time", TODAY)
        await client.close()
    assert answer is not None
    assert answer.value.startswith("2027-04")
    assert requests[0]["format"] == schema_for(QUESTIONS["timeline"])
    assert (client.usage.tokens_in, client.usage.tokens_out) == (50, 9)


async def test_a_late_model_costs_no_more_than_the_deadline() -> None:
    async with scripted_ollama("x", delay_s=5.0) as (url, _):
        client = LlmClient(url, "m")
        started = asyncio.get_running_loop().time()
        with pytest.raises(LlmUnavailableError):
            await client.ask("s", "u", deadline_s=0.1, max_tokens=5)
        assert asyncio.get_running_loop().time() - started < 1.0
        await client.close()


async def test_a_wrong_key_or_no_server_is_an_absent_model() -> None:
    async with scripted_ollama("x", key="made-up") as (url, _):
        client = LlmClient(url, "m", api_key="other")
        with pytest.raises(LlmUnavailableError):
            await client.ask("s", "u", deadline_s=2.0, max_tokens=5)
        await client.close()
    gone = LlmClient(url, "m")
    with pytest.raises(LlmUnavailableError):
        await gone.ask("s", "u", deadline_s=2.0, max_tokens=5)
    await gone.close()


def test_the_breaker_opens_after_failures_in_a_row_and_tries_again_later() -> None:
    now = [0.0]
    breaker = CircuitBreaker(failures=2, open_for_s=60.0, clock=lambda: now[0])
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.closed
    breaker.failed()
    assert not breaker.closed
    now[0] = 61.0
    assert breaker.closed
    breaker.failed()
    assert not breaker.closed


@pytest.mark.parametrize(
    ("name", "heard", "evidence", "value", "expected"),
    [
        ("interested", "Oh, that ship has sailed.", "that ship has sailed", "no", "no"),
        ("interested", "Oh, that ship has sailed.", "I would love to", "yes", None),
        ("interested", "Oh, that ship has sailed.", "", "yes", None),
        ("interested", "Oh, that ship has sailed.", "ship", "maybe", None),
        ("interested", "Yes, that ship sails.", "Yes, that ship sails", "no", None),
        ("interested", "Oh, that ship has sailed.", "ship", "unclear", None),
        ("bedrooms", "Room for the twins, so three, and one guest.", "so three", "3", "3"),
        ("bedrooms", "Room for the twins.", "Room for the twins", "2", None),
        ("budget", "My cap is 400,000 all in.", "400,000 all in", "400000", "400000"),
        ("budget", "My cap is 400,000 all in.", "400,000 all in", "500000", None),
        ("timeline", "Around Easter time.", "Easter", "next year", None),
        ("property", "Something with a lift, a flat I suppose.", "a flat", "condo", "condo"),
        ("property", "Something with a lift, a flat I suppose.", "a flat", "castle", None),
    ],
)
def test_an_opinion_must_quote_and_parse(
    name: str, heard: str, evidence: str, value: str, expected: str | None
) -> None:
    answer = checked(QUESTIONS[name], heard, evidence, value, TODAY)
    assert (answer.value if answer else None) == expected


@pytest.mark.parametrize(
    "line", ["That sounds wonderful!", "Good to know", '"A condo, nice choice."', "Three bedrooms, noted."]
)
def test_plain_short_sentences_pass_the_guard(line: str) -> None:
    assert guarded(line, "three bedrooms in a condo") is not None


@pytest.mark.parametrize(
    "line",
    [
        "", "Would you like to buy?", "I promise you a great rate.", "We will call you tomorrow.",
        "That is 500 more.", "Are you sure?",
        "one two three four five six seven eight nine ten eleven twelve thirteen", "Nice to meet you.",
        "{\"a\": 1}", "As an AI I agree.", "<b>ok</b>",
    ],
)  # fmt: skip
def test_anything_else_is_stopped_by_the_guard(line: str) -> None:
    assert guarded(line, "three bedrooms") is None


def test_only_the_first_sentence_is_said() -> None:
    assert guarded("Great. And now I will call you.", "yes") == "Great."
    assert guarded("I'm glad to hear that! Let us go on.", "yes") == "I'm glad to hear that!"


@given(st.text(max_size=200), st.text(max_size=100))
def test_the_guard_survives_any_text(line: str, heard: str) -> None:
    passed = guarded(line, heard)
    assert passed is None or len(passed.split()) <= 13
