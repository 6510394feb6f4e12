"""The command line: only the command that is asked for is imported, and nothing is lost by that."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from callfleet.__main__ import COMMANDS, GROUPS, app_for

NAMES = [*GROUPS, *COMMANDS]


def output(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app_for(arguments), arguments)
    return done.exit_code, done.output


def test_help_names_every_command() -> None:
    code, said = output("--help")
    assert code == 0
    assert [name for name in NAMES if f" {name} " not in said] == []


@pytest.mark.parametrize("name", sorted({*NAMES} - {"simulator"}))  # its options are its own
def test_a_command_that_is_loaded_alone_keeps_its_name(name: str) -> None:
    code, said = output(name, "--help")
    assert code == 0
    assert f" {name} " in said.partition("Usage:")[2].splitlines()[0] + " "


@pytest.mark.parametrize("arguments", [("frob",), ("--frob",), ("--frob", "demo")])
def test_what_is_no_command_is_refused(arguments: tuple[str, ...]) -> None:
    code, said = output(*arguments)
    assert code == 2
    assert "No such" in said
