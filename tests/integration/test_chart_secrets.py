"""Who makes the installation's Secrets, and what Helm says of them at the end."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.integration.chart import CHART, VALUES, notes, refusal, rendered

from callfleet.checkout import checkout

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
HTTPS = {"apiBaseUrl": "https://api.example.com", "publicUrl": "https://calls.example.com"}
REAL: dict[str, Any] = {"simulator": {"enabled": False}}
BARE = VALUES["carrier"] | HTTPS
KEYED = BARE | {"apiKeySid": "SK0", "apiKeySecret": "hush"}
# Whatever VALUES has, as it is where nothing is said.
NONE_GIVEN = {name: DEFAULTS[name] for name in VALUES} | {"carrier": DEFAULTS["carrier"] | HTTPS}
FOREIGN = NONE_GIVEN | {"secrets": {"create": False}}


def secrets(**more: Any) -> dict[str, set[str]]:
    """The keys of each Secret that is rendered."""
    bodies = (body for body in rendered(**more) if body["kind"] == "Secret")
    return {body["metadata"]["name"]: set(body["stringData"]) for body in bodies}


def test_somebody_else_makes_the_secrets_and_no_value_of_theirs_is_asked_for() -> None:
    assert secrets(**FOREIGN) == {}


def test_an_earlier_charts_values_do_not_say_who_makes_the_secrets() -> None:
    """As with helm upgrade --reuse-values."""
    assert secrets(secrets=None) == secrets()


@pytest.mark.parametrize(
    "given",
    [
        {"carrier": NONE_GIVEN["carrier"] | {"allowlist": ["+15550100001"]}},
        {"database": VALUES["database"]},
        {"hashKey": VALUES["hashKey"]},
        {"ollama": {"endpoints": ["http://10.0.0.1:11434"]}},
    ],
)
def test_a_value_that_nobody_would_read_is_refused(given: dict[str, Any]) -> None:
    assert "secrets.create is false" in refusal(yaml.safe_dump(FOREIGN | given))


def test_a_simulator_needs_the_charts_own_secrets() -> None:
    simulated = FOREIGN | {"simulator": VALUES["simulator"], "carrier": DEFAULTS["carrier"]}
    assert "simulator.enabled needs secrets.create" in refusal(yaml.safe_dump(simulated))


def test_the_names_and_keys_are_documented() -> None:
    text = (checkout() / "docs" / "operations.md").read_text()
    made = [secrets(**REAL, carrier=carrier, ollama=VALUES["ollama"] | {"apiKey": "hush"}) for carrier in (BARE, KEYED)]
    assert len(made[0]) == 4
    for name, key in ((name, key) for each in made for name, keys in each.items() for key in keys):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert f"`{key}`" in row


def test_whoever_installs_is_told_that_workers_get_the_accounts_own_token() -> None:
    warning = "there is no carrier.apiKeySid"
    assert warning in notes(**REAL, carrier=BARE)
    assert warning not in notes(**REAL, carrier=KEYED)
    assert warning not in notes()


def test_whoever_installs_is_told_where_the_carrier_must_get_to() -> None:
    assert HTTPS["publicUrl"] in notes(**REAL, carrier=BARE)
    assert "nobody is really called" in notes()
