"""An installation's own price lists: from the chart's value into the operator, which refuses what it cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.chart import rendered

from callfleet_core.errors import PricingError
from callfleet_core.pricing import load_prices

PRICES = """
[[list]]
valid_from = 2026-01-01
currency = "EUR"
[[list.rate]]
direction = "outbound"
prefix = "+49"
per_minute = "0.02"
[list.carrier]
media_stream_per_minute = "0.004"
recording_per_minute = "0.0025"
machine_detection_per_call = "0.0075"
[list.vendors]
whisper_stt_per_minute = "0.006"
piper_tts_per_1000_characters = "0"
elevenlabs_tts_per_1000_characters = "0.30"
ollama_llm_per_1000_tokens = "0"
"""


def operator(objects: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    (found,) = (
        body for body in objects if (body["kind"], body["metadata"]["name"]) == ("Deployment", "callfleet-operator")
    )
    template: dict[str, Any] = found["spec"]["template"]
    return template


def test_the_charts_prices_are_what_the_operator_reads(tmp_path: Path) -> None:
    objects = rendered(prices=PRICES)
    (stored,) = (body for body in objects if body["metadata"]["name"] == "callfleet-prices")
    pod = operator(objects)
    (container,) = pod["spec"]["containers"]
    (variable,) = (item for item in container["env"] if item["name"] == "CALLFLEET_PRICES_FILE")
    (mount,) = (item for item in container["volumeMounts"] if item["name"] == "prices")
    (name,) = stored["data"]
    assert variable["value"] == f"{mount['mountPath']}/{name}"
    assert {"name": "prices", "configMap": {"name": "callfleet-prices"}} in pod["spec"]["volumes"]
    file = tmp_path / name
    file.write_text(stored["data"][name])
    assert load_prices(file).currency == "EUR"


def test_other_prices_restart_the_operator() -> None:
    pods = [operator(rendered()), operator(rendered(prices=PRICES))]
    assert len({pod["metadata"]["annotations"]["checksum/prices"] for pod in pods}) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot be read: No such file"), (b"list = 1 2", "are not TOML"), (b"\xff", "are not TOML"),
     (b"", "there is no price list")],
)  # fmt: skip
def test_prices_that_cannot_be_used_are_refused_whole(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "prices.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PricingError, match=told):
        load_prices(file)
