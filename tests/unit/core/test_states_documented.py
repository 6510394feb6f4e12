"""docs/states.md has every state and reason, and names a test that exists for each: a new one cannot be forgotten."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from callfleet.checkout import checkout
from callfleet_core.api.callsession import Reason, SessionState

ROW = re.compile(r"^\| `(?P<name>\w+)` \|.*\| (?P<shown>[^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"^`(?P<path>tests/[\w/]+\.py)::(?P<name>\w+)`$")
# For what the code names but nothing sets yet.
NOT_YET = "not yet"


def _rows() -> dict[str, str]:
    found = ROW.findall((checkout() / "docs" / "states.md").read_text())
    assert len({name for name, _ in found}) == len(found), "each has one row"
    return {name: shown.strip() for name, shown in found}


def _source(path: Path, function: str) -> str:
    """The text of a test function; empty when there is none of that name."""
    text = path.read_text()
    found = (
        ast.get_source_segment(text, node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    )
    return next(found, None) or ""


def test_every_state_and_reason_has_a_row_and_nothing_else_has() -> None:
    assert set(_rows()) == {*(state.value for state in SessionState), *(reason.value for reason in Reason)}


@pytest.mark.parametrize(("name", "shown"), _rows().items(), ids=_rows().keys())
def test_the_test_that_shows_it_exists_and_speaks_of_it(name: str, shown: str) -> None:
    if shown == NOT_YET:
        return
    named = TEST.match(shown)
    assert named is not None, f"{name}: name a test as `tests/….py::test_…`, or say {NOT_YET}"
    assert f'"{name}"' in _source(checkout() / named["path"], named["name"])
