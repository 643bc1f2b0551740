"""Painted partial maps: layers with transparency, soft brushes, JPEGs, paper that is not black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import distance_transform_edt

from ldmseg.errors import InputError
from ldmseg.formats.painting import doubts, named_color, read_painting, too_many_hint

SIZE = 192
RED, GREEN, BLUE = (255, 0, 0), (0, 160, 0), (0, 0, 255)
CODES = {color: color[0] + 256 * color[1] + 65536 * color[2] for color in (RED, GREEN, BLUE)}


def strokes(paper: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Three strokes, 12 pixels wide; red and blue cross."""
    picture = Image.new("RGB", (SIZE, SIZE), paper)
    draw = ImageDraw.Draw(picture)
    draw.line([(20, 20), (170, 60)], RED, 12)
    draw.line([(20, 90), (170, 20)], BLUE, 12)
    draw.line([(20, 150), (170, 150)], GREEN, 12)
    return picture


def agreement(ids: np.ndarray) -> tuple[float, float]:
    """Share of the hard strokes' pixels that came back, and the share of what came back that is wrong."""
    truth = read_ids(strokes())
    return float((ids == truth)[truth > 0].mean()), float((ids != truth)[ids > 0].mean())


def read_ids(picture: Image.Image) -> np.ndarray:
    return (np.asarray(picture).astype(int) * (1, 256, 65536)).sum(axis=2)


def nearest_color(code: int) -> tuple[int, int, int]:
    return min(CODES, key=lambda color: np.abs(np.subtract(color, (code & 255, code >> 8 & 255, code >> 16))).sum())


def saved(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def soft_layer() -> Image.Image:
    """The strokes on a transparent layer, with a soft brush: full colour, alpha that falls off."""
    hard = strokes()
    alpha = Image.fromarray(((np.asarray(hard) > 0).any(axis=2) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    nearest = distance_transform_edt((np.asarray(hard) == 0).all(axis=2), return_distances=False, return_indices=True)
    spread = Image.fromarray(np.asarray(hard)[tuple(nearest)])
    spread.putalpha(alpha)
    return spread


def test_a_layer_keeps_its_strokes_and_their_colours(tmp_path: Path) -> None:
    layer = strokes()
    layer.putalpha(Image.fromarray(((np.asarray(layer) > 0).any(axis=2) * 255).astype(np.uint8)))
    painting = read_painting(saved(layer, tmp_path / "layer.png"))
    assert np.array_equal(painting.map.ids, read_ids(strokes()))
    assert painting.colors == {code: color for color, code in CODES.items()}


def test_colours_of_a_palette_and_none_of_gray(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8))
    picture.save(tmp_path / "gray.png")
    picture.putpalette([0, 0, 0, *RED, *BLUE])
    picture.save(tmp_path / "palette.png")
    assert read_painting(tmp_path / "palette.png").colors == {1: RED, 2: BLUE}
    assert read_painting(tmp_path / "palette.png").map.ids.tolist() == [[0, 1], [2, 0]]
    assert read_painting(tmp_path / "gray.png").colors == {}


def test_a_palette_whose_first_entry_is_a_stroke(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8))
    picture.putpalette([*RED, 1, 1, 1])
    picture.save(tmp_path / "gimp.png", transparency=1)
    assert read_painting(tmp_path / "gimp.png").map.ids.tolist() == [[255, 0], [0, 0]]


def test_soft_brushes_and_jpegs_are_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"soft\.png'.*soft brush.*--clean-partial"):
        read_painting(saved(soft_layer(), tmp_path / "soft.png"))
    with pytest.raises(InputError, match=r"p\.jpg'.*JPEG.*--clean-partial"):
        read_painting(saved(strokes(), tmp_path / "p.jpg"))
    blurred = read_painting(saved(strokes().filter(ImageFilter.GaussianBlur(1)), tmp_path / "blurred.png"))
    assert len(blurred.map) > 100
    assert "soft brush" in too_many_hint(blurred.map)
    assert any("soft brush" in doubt for doubt in doubts(blurred))


@pytest.mark.parametrize("kind", ["soft layer", "blurred", "jpeg", "jpeg on white", "hard"])
def test_cleaning_finds_the_strokes(tmp_path: Path, kind: str) -> None:
    unknown = None
    if kind == "soft layer":
        path = saved(soft_layer(), tmp_path / "p.png")
    elif kind == "blurred":
        path = saved(strokes().filter(ImageFilter.GaussianBlur(1)), tmp_path / "p.png")
    elif kind == "jpeg":
        path = saved(strokes(), tmp_path / "p.jpg", quality=75)
    elif kind == "jpeg on white":
        path, unknown = saved(strokes((255, 255, 255)), tmp_path / "p.jpg", quality=75), (255, 255, 255)
    else:
        path = saved(strokes(), tmp_path / "p.png")
    painting = read_painting(path, clean=True, unknown=unknown)
    assert len(painting.map) == 3
    found, wrong = agreement(painting.map.relabel({s.id: CODES[nearest_color(s.id)] for s in painting.map.segments}).ids)
    assert found > (0.999 if kind == "hard" else 0.7)
    assert wrong < 0.06


def test_cleaning_keeps_thin_hard_strokes_and_ids_of_gray_pictures(tmp_path: Path) -> None:
    picture = Image.new("RGB", (60, 60))
    ImageDraw.Draw(picture).line([(5, 5), (50, 40)], RED, 1)
    cleaned = read_painting(saved(picture, tmp_path / "thin.png"), clean=True)
    assert np.array_equal(cleaned.map.ids, read_ids(picture))
    gray = np.arange(1, 65, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(read_painting(saved(Image.fromarray(gray), tmp_path / "gray.png"), clean=True).map.ids, gray)


def test_white_paper_is_doubted_and_can_be_unknown(tmp_path: Path) -> None:
    path = saved(strokes((255, 255, 255)), tmp_path / "white.png")
    (doubt,) = doubts(read_painting(path))
    assert "100 % of the pixels are given" in doubt and "--unknown white" in doubt
    painting = read_painting(path, unknown=named_color("white", "--unknown"))
    assert np.array_equal(painting.map.ids, read_ids(strokes()))
    assert doubts(painting) == []
    gray = saved(Image.fromarray(np.array([[255, 7]], np.uint8)), tmp_path / "gray.png")
    assert read_painting(gray, unknown=(255, 255, 255)).map.ids.tolist() == [[0, 7]]


@pytest.mark.parametrize("name", ["white", "#fff", "#FFFFFF", "255,255,255", "rgb(255, 255, 255)"])
def test_names_of_colours(name: str) -> None:
    assert named_color(name, "--unknown") == (255, 255, 255)


def test_what_is_no_colour() -> None:
    with pytest.raises(InputError, match=r"^--unknown: expected a colour such as white.*got 'paper'$"):
        named_color("paper", "--unknown")
