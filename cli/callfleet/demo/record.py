"""Records a demo's screens into one animated SVG, for a page that cannot run it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI

from callfleet.demo.scene import FINAL_STATES, Scene, what_counts
from callfleet.demo.view import screen

COLUMNS, LINES = 110, 26
MOST_FRAMES = 16
MOST_KEPT = 600
FRAME_S, LAST_FRAME_S = 1.6, 9.0
MARGIN_PX = 12
# One frame as rich fills it in; the first line tells its height. No clips: nothing leaves its line.
_FRAME = """{height}
<style>{styles}</style>
<rect width="100%" height="100%" rx="8" fill="#272822"/>
<g transform="translate(12, 12)" class="{unique_id}-matrix">{backgrounds}{matrix}</g>"""
_CLIP = re.compile(r' clip-path="url\(#[^"]*\)"')
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True)
class Frame:
    """One screen as a piece of SVG."""

    height_px: float
    body: str


class Recorder:
    """Keeps a frame whenever a session or the conversation has changed, and writes the film at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scenes: list[Scene] = []

    def tell(self, scene: Scene) -> None:
        """Remembers a scene that differs from the last in more than the time."""
        if len(self._scenes) < MOST_KEPT and (not self._scenes or what_counts(scene) != what_counts(self._scenes[-1])):
            self._scenes.append(scene)

    def write(self, ending: RenderableType) -> None:
        """The picked scenes and then the ending, as an animated SVG."""
        pictures: list[RenderableType] = [screen(scene, COLUMNS, LINES) for scene in picked(self._scenes)]
        frames = [draw(picture, f"f{index}") for index, picture in enumerate([*pictures, ending])]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(film(frames))


def picked(scenes: Sequence[Scene], most: int = MOST_FRAMES) -> list[Scene]:
    """At most `most`: first and last, the first call turn by turn for half of them, then evenly spread."""
    if len(scenes) <= most:
        return list(scenes)
    first_over = next(
        (i for i, scene in enumerate(scenes) if any(s.state in FINAL_STATES for s in scene.sessions)), len(scenes) // 2
    )
    opening = _spread(range(first_over + 1), most // 2)
    rest = _spread(range(first_over + 1, len(scenes)), most - len(opening))
    return [scenes[index] for index in [*opening, *rest]]


def _spread(indexes: range, most: int) -> list[int]:
    if len(indexes) <= most:
        return list(indexes)
    if most < 2:
        return [indexes[-1]][:most]
    return [indexes[round(step * (len(indexes) - 1) / (most - 1))] for step in range(most)]


def draw(picture: RenderableType, name: str, columns: int = COLUMNS) -> Frame:
    """One frame; `name` keeps its styles apart from other frames'."""
    console = Console(record=True, file=io.StringIO(), width=columns, force_terminal=True, color_system="truecolor")
    console.print(picture)
    text = console.export_svg(title="", theme=MONOKAI, code_format=_FRAME, unique_id=name)
    height, _, body = text.partition("\n")
    return Frame(float(height), _CLIP.sub("", body))


def film(frames: Sequence[Frame], columns: int = COLUMNS) -> str:
    """An SVG that shows the frames one after the other, for ever; only the last where motion is unwelcome."""
    # rich draws characters 12.2 px wide, and 20 px high on lines of 1.22 times that.
    width = round(columns * 12.2 + 2 * MARGIN_PX)
    height = round(max(frame.height_px for frame in frames) + 2 * MARGIN_PX)
    total_s = FRAME_S * (len(frames) - 1) + LAST_FRAME_S
    rules = [f"text{{font-family:{_FONT};font-size:20px;white-space:pre}}.frame{{visibility:hidden}}"]
    for index in range(len(frames)):
        start = 100 * FRAME_S * index / total_s
        end = 100 * FRAME_S * (index + 1) / total_s if index < len(frames) - 1 else 100.0
        # Hidden but in its own share of the time.
        hidden_after = "" if end >= 100 else f"{end:.3f}%{{visibility:hidden}}"
        rules.append(f"@keyframes k{index}{{0%{{visibility:hidden}}{start:.3f}%{{visibility:visible}}{hidden_after}}}")
        rules.append(f"#frame{index}{{animation:k{index} {total_s:.1f}s step-end infinite}}")
    # What shows no animations, or must not, shows the ending.
    rules.append(f"#frame{len(frames) - 1}{{visibility:visible}}")
    rules.append("@media (prefers-reduced-motion:reduce){.frame{animation:none!important}}")
    groups = "\n".join(f'<g class="frame" id="frame{index}">{frame.body}</g>' for index, frame in enumerate(frames))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="callfleet demo, recorded">\n<style>{"".join(rules)}</style>\n{groups}\n</svg>\n'
    )
