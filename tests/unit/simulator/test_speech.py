"""What speech needs before anybody speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from callfleet_simulator.errors import SpeechError
from callfleet_simulator.people import People
from callfleet_simulator.speech import PIPER_MODEL, WHISPER_FOLDER, Speech

SILENT = People.model_validate({"people": {"+15550100100": {"name": "Ada"}}})


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder that looks as if the models were in it."""
    for name in (PIPER_MODEL, f"{PIPER_MODEL}.json", f"{WHISPER_FOLDER}/model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


async def test_a_folder_of_lines_that_cannot_be_made_is_told_with_what_to_do(models: Path) -> None:
    in_the_way = models / "lines"
    in_the_way.touch()
    with pytest.raises(SpeechError, match=rf"{in_the_way}/kept .*give another --cache-dir"):
        async with Speech(SILENT, models, in_the_way / "kept", seed=1):
            pass


async def test_models_that_are_missing_are_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match=f"{tmp_path / PIPER_MODEL} is missing"):
        async with Speech(SILENT, tmp_path, None, seed=1):
            pass
