"""Draw the picture of CONTRIBUTING.md: the stages of a call, what passes between them, and the module of each.

python benchmarks/road.py
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, STAGE_HEIGHT, GAP, MARGIN = 900, 62, 40, 14
LEFT, STAGE_WIDTH = 40, 330
FONT = "font-family='Helvetica, Arial, sans-serif'"
CODE = "font-family='Menlo, Consolas, monospace'"


@dataclass(frozen=True)
class Stage:
    """A box with the modules it stands for, what it does, and what it hands on."""

    name: str
    modules: str
    does: tuple[str, str]
    hands_on: str


STAGES = (
    Stage(
        "1. options",
        "options.py, inference/samples.py",
        ("The call's options are put over the model's defaults.", "Every argument is checked before a network runs."),
        "InferenceOptions, Call",
    ),
    Stage(
        "2. samples",
        "inference/known.py, inference/samples.py",
        ("One sample for each photo and each member of its ensemble:", "the photo, a generator, mirrored or not, the known map."),
        "list[Sample]",
    ),
    Stage(
        "3. draw",
        "inference/draw.py, cells.py, postprocess.py",
        ("Photos and known maps are encoded, noise is denoised, latents", "are decoded. Tiles: window by window (inference/tiles.py)."),
        "PanopticMap of each sample",
    ),
    Stage(
        "4. vote",
        "inference/finish.py, ensemble.py",
        ("Mirrored maps are mirrored back.", "The samples of a photo vote on its map."),
        "PanopticMap of each photo",
    ),
    Stage(
        "5. finish",
        "inference/finish.py, boundaries.py, postprocess.py",
        ("Borders are moved to the edges of the photo.", "Connected components are separated if asked for."),
        "LDMSegOutput: maps, confidence, samples",
    ),
)


def text(x: float, y: float, words: str, size: int = 14, font: str = FONT, extra: str = "") -> str:
    return f"<text x='{x:g}' y='{y:g}' font-size='{size}' {font} fill='#1b1f24' {extra}>{escape(words)}</text>"


def arrow(y: float, words: str) -> list[str]:
    x = LEFT + STAGE_WIDTH / 2
    line = f"<line x1='{x:g}' y1='{y:g}' x2='{x:g}' y2='{y + GAP - 8:g}' stroke='#1b1f24' stroke-width='1.5' marker-end='url(#head)'/>"
    return [line, text(x + 14, y + GAP / 2 + 4, words, 13, CODE)]


def picture() -> str:
    """The whole SVG; the same text on every machine."""
    parts, y = [], float(MARGIN)
    parts += arrow(y, "photos, partial maps, keyword arguments    (LDMSegPipeline.__call__, .inpaint)")
    for stage in STAGES:
        y += GAP
        box = f"x='{LEFT}' y='{y:g}' width='{STAGE_WIDTH}' height='{STAGE_HEIGHT}' rx='8'"
        parts.append(f"<rect {box} fill='#dbe7ff' stroke='#3f51b5'/>")
        parts.append(text(LEFT + 14, y + 26, stage.name, 17, extra="font-weight='bold'"))
        parts.append(text(LEFT + 14, y + 48, stage.modules, 10, CODE))
        parts += [text(LEFT + STAGE_WIDTH + 24, y + 26 + 20 * i, words) for i, words in enumerate(stage.does)]
        y += STAGE_HEIGHT
        parts += arrow(y, stage.hands_on)
    height = y + GAP + MARGIN
    head = (
        "<defs><marker id='head' viewBox='0 0 8 8' refX='6' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        "<path d='M0 0 L8 4 L0 8 z' fill='#1b1f24'/></marker></defs>"
    )
    frame = f"<rect width='{WIDTH}' height='{height:g}' fill='white'/>"
    opening = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height:g}' viewBox='0 0 {WIDTH} {height:g}' role='img'>"
    title = "<title>The stages of a call: options, samples, draw, vote, finish</title>"
    return "\n".join([opening, title, head, frame, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path("docs/images/road.svg").write_text(picture(), encoding="utf-8")
