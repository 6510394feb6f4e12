"""The migrations' Job is named by what it runs: no tool that renders the chart ever has to change one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.chart import VALUES, rendered

OTHER_DATABASE = {**VALUES["database"], "operatorUrl": "postgresql://callfleet@10.0.0.1/callfleet"}


def job(**more: Any) -> tuple[str, dict[str, Any]]:
    """The Job's name and its template."""
    (found,) = (body for body in rendered(**more) if body["kind"] == "Job")
    return found["metadata"]["name"], found["spec"]["template"]


def test_what_is_the_same_keeps_its_job() -> None:
    assert job(uncovered={"dailyLimit": "100"}) == job()


@pytest.mark.parametrize(
    "more",
    [
        {"image": {"operator": {"tag": "1.1.0"}}},
        {"image": {"operator": {"repository": "registry.example.com/callfleet/operator"}}},
        {"image": {"pullPolicy": "Always"}},
        {"database": OTHER_DATABASE},
    ],
)
def test_another_template_or_database_has_a_job_of_its_own(more: dict[str, Any]) -> None:
    name, _ = job()
    other, _ = job(**more)
    assert other != name
    assert other.startswith("callfleet-migrations-")
