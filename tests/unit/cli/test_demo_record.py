"""The recorded film of a demo."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.unit.cli.demo_scenes import TALK, TYPES, middle, summary

from callfleet.demo.record import MOST_FRAMES, Recorder, draw, film, picked
from callfleet.demo.report import report
from callfleet.demo.scene import Saying, Scene
from callfleet.demo.view import screen

SVG = "{http://www.w3.org/2000/svg}"


def talking(turns: int) -> Scene:
    sayings = [Saying(index % 2 == 0, f"turn {index}") for index in range(turns)]
    return replace(middle(), talks=[replace(TALK, sayings=sayings)])


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).replace("\xa0", " ").split())


def test_a_film_is_one_svg_with_a_frame_for_each_change_and_the_ending_last(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "docs" / "demo.svg")
    for turns in (0, 1, 1, 2):
        recorder.tell(replace(talking(turns), elapsed_s=float(turns)))
    recorder.write(report(summary(), middle(), TYPES))
    root = ET.parse(tmp_path / "docs" / "demo.svg").getroot()  # noqa: S314 - we have just written it
    frames = [item for item in root.findall(f"{SVG}g") if item.get("class") == "frame"]
    assert len(frames) == 4
    assert "turn 0" in words(frames[1])
    assert "turn 1" in words(frames[2])
    assert "2 of 4 people were called" in words(frames[3])


def test_frames_follow_each_other_without_a_gap_or_an_overlap() -> None:
    frames = [draw(screen(talking(turns), 100, 24), f"f{turns}") for turns in range(4)]
    text = film(frames)
    shown = [
        (float(start), float(end or 100))
        for start, end in re.findall(r"@keyframes k\d+\{0%\{[^}]*\}([\d.]+)%\{visibility:visible\}(?:([\d.]+)%)?", text)
    ]
    assert len(shown) == 4
    assert shown[0][0] == 0
    assert shown[-1][1] == 100
    assert all(before[1] == after[0] for before, after in pairwise(shown))


def test_nothing_in_the_film_is_fetched_from_elsewhere() -> None:
    text = film([draw(screen(middle(), 100, 24), "f0")])
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text


def test_a_long_demo_keeps_its_first_and_last_scene_and_a_bounded_number_between() -> None:
    scenes = [replace(talking(turns), elapsed_s=float(turns)) for turns in range(300)]
    kept = picked(scenes)
    assert len(kept) <= MOST_FRAMES
    assert kept[0] == scenes[0]
    assert kept[-1] == scenes[-1]
    assert sorted(kept, key=lambda scene: scene.elapsed_s) == kept
