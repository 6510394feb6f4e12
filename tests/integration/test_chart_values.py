"""Values as people write them: Helm refuses what would be kept otherwise than it was meant, and says where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.chart import CHART, VALUES, refusal, rendered

from callfleet_core.money import MONEY_PATTERN
from callfleet_core.phone import E164_PATTERN

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
ALLOWED = ["+15550100001", "+15550100002"]


def environment(bodies: tuple[dict[str, Any], ...]) -> dict[str, str]:
    """What the operator's container is told, by its Secret and by its own environment."""
    named = {(body["kind"], body["metadata"]["name"]): body for body in bodies}
    (container,) = named["Deployment", "callfleet-operator"]["spec"]["template"]["spec"]["containers"]
    secret: dict[str, str] = named["Secret", "callfleet-operator"]["stringData"]
    return secret | {item["name"]: item["value"] for item in container["env"] if "value" in item}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("carrier: {allowlist: [+15550100001]}", "at '/carrier/allowlist/0': got number, want string"),
        ("carrier: {allowlist: ['0555 0100001']}", "at '/carrier/allowlist/0': '0555 0100001' does not match"),
        ("carrier: {allowlist: '+15550100001'}", "at '/carrier/allowlist': got string, want array"),
        ("carrier: {authToken: 12345678901234567890123456789012}", "at '/carrier/authToken': got number, want string"),
        ("carrier: {accountSid: SK0}", "at '/carrier/accountSid': 'SK0' does not match"),
        ("carrier: {callsPerSecond: 0}", "at '/carrier/callsPerSecond'"),
        ("carrier: {maxConcurrent: 200000}", "at '/carrier/maxConcurrent': maximum: got 200,000, want 100,000"),
        ("carrier: {publicUrl: calls.example.com}", "at '/carrier/publicUrl': 'calls.example.com' does not match"),
        ("carrier: {baseUrl: 'https://api.example.com'}", "additional properties 'baseUrl' not allowed"),
        ("uncovered: {monthlyLimit: 1000000}", "at '/uncovered/monthlyLimit': got number, want string"),
        ("uncovered: {dailyLimit: '1,000'}", "at '/uncovered/dailyLimit': '1,000' does not match"),
        ("image: {worker: {tag: 1.10}}", "at '/image/worker/tag': got number, want string"),
        ("operator: {logLevel: info}", "value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("operator: {recoveryByHand: 'false'}", "at '/operator/recoveryByHand': got string, want boolean"),
        ("simulator: {enabled: 'false'}", "at '/simulator/enabled': got string, want boolean"),
        ("simulator: {people: {people: []}}", "at '/simulator/people': got object, want string"),
        ("workers: {device: cpu}", "additional properties 'workers' not allowed"),
    ],
)
def test_a_value_that_would_not_be_kept_is_refused(written: str, said: str) -> None:
    assert said in refusal(written)


def test_a_key_that_is_too_short_is_refused_and_not_shown() -> None:
    said = refusal("hashKey: hush-hush")
    assert "at '/hashKey': minLength: got 9, want 32" in said
    assert "hush-hush" not in said


def test_what_is_missing_is_asked_for_by_its_name() -> None:
    assert "redis.url is missing, e.g. redis://" in refusal("redis: {url: ''}")


REAL = {"simulator": {"enabled": False}}
HTTPS = {"apiBaseUrl": "https://api.example.com", "publicUrl": "https://calls.example.com"}


@pytest.mark.parametrize("name", HTTPS)
def test_a_real_carrier_is_spoken_to_by_https_only(name: str) -> None:
    carrier = VALUES["carrier"] | HTTPS
    told = environment(rendered(**REAL, carrier=carrier))
    addresses = {told["CALLFLEET_CARRIER_API_BASE_URL"], told["CALLFLEET_PUBLIC_URL"]}
    assert addresses == set(HTTPS.values())
    plain = {"carrier": carrier | {name: "http://api.example.com"}}
    assert f"carrier.{name} must begin with https://" in refusal(yaml.safe_dump(REAL | plain))


def test_values_reach_the_operator_as_they_were_written() -> None:
    told = environment(
        rendered(
            carrier={**VALUES["carrier"], "allowlist": ALLOWED, "callsPerSecond": 0.5, "maxConcurrent": 100_000},
            uncovered={"monthlyLimit": "1000000"},
            operator={"workerIdleSeconds": 604_800},
        )
    )
    assert told["CALLFLEET_DIAL_ALLOWLIST"] == ",".join(ALLOWED)
    assert told["MONTHLY_BUDGET_LIMIT"] == "1000000"
    assert told["CALLFLEET_CARRIER_CALLS_PER_SECOND"] == "0.5"
    assert told["CALLFLEET_CARRIER_MAX_CONCURRENT"] == "100000"
    assert told["CALLFLEET_WORKER_IDLE_SECONDS"] == "604800"


def test_values_of_the_command_line_and_of_a_chart_around_it_are_taken(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "USD"')
    options = (
        "--set-file",
        f"prices={prices}",
        "--set-string",
        "uncovered.dailyLimit=100",
        "--set",
        "gateway.replicas=2",
    )
    bodies = rendered(*options, **{"global": {"region": "eu"}})
    (stored,) = (body for body in bodies if body["metadata"]["name"] == "callfleet-prices")
    assert stored["data"]["prices.toml"] == prices.read_text()
    assert environment(bodies)["DAILY_BUDGET_LIMIT"] == "100"


def test_every_value_has_its_place_in_the_schema() -> None:
    open_ended = {"global"}

    def names(schema: dict[str, Any], values: Any, path: str = "") -> None:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            assert schema["properties"].keys() - open_ended == values.keys(), path
            for name, value in values.items():
                names(schema["properties"][name], value, f"{path}.{name}")

    names(SCHEMA, DEFAULTS)


def test_money_and_numbers_are_those_of_the_api() -> None:
    assert SCHEMA["definitions"]["money"]["pattern"] == MONEY_PATTERN
    assert SCHEMA["properties"]["carrier"]["properties"]["allowlist"]["items"]["pattern"] == E164_PATTERN
