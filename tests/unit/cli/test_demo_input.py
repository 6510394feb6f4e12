"""What a demo refuses before it builds anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from callfleet.checkout import sample
from callfleet.demo.run import check_input
from callfleet.demo.setup import DemoOptions
from callfleet.installation import InstallError

GOOD = DemoOptions(campaign=sample("demo-campaign.yaml"), people=sample("demo-people.yaml"))


def test_the_demos_own_files_are_taken() -> None:
    check_input(GOOD)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("kind: Budget\n", "holds no Campaign"), ("", "holds no Campaign")],
)
def test_a_campaign_file_that_cannot_work_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    with pytest.raises(InstallError, match=message):
        check_input(replace(GOOD, campaign=path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="is not a file"):
        check_input(replace(GOOD, people=tmp_path / "nobody.yaml"))


def test_a_cluster_of_the_users_is_refused_with_what_to_do() -> None:
    with pytest.raises(InstallError, match="install the chart there"):
        check_input(replace(GOOD, context="production"))
