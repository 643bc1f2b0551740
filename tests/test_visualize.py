"""Pictures of segments: stable colours, overlays that leave void alone, sheets of the right size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.palette import NO_CATEGORY, PALETTE, VOID_COLOR
from ldmseg.panoptic import PanopticMap, Segment
from ldmseg.visualize import captioned, color_map, completion_panels, confidence_map, confidence_picture, contact_sheet, in_columns, overlay


@pytest.fixture
def halves() -> PanopticMap:
    """Id 3 on the left, void in the middle, id 70000 on the right."""
    ids = np.zeros((8, 12), dtype=np.int32)
    ids[:, :4], ids[:, 8:] = 3, 70000
    return PanopticMap(ids, (Segment(3, category_id=7, isthing=False), Segment(70000)))


def test_color_map_takes_the_palette_and_the_colours_that_are_given(halves: PanopticMap) -> None:
    picture = np.asarray(color_map(halves))
    assert picture.shape == (8, 12, 3)
    assert (picture[:, :4] == PALETTE[2]).all()
    assert (picture[:, 4:8] == VOID_COLOR).all()
    assert (picture[:, 8:] == PALETTE[(70000 - 1) % len(PALETTE)]).all()
    given = np.asarray(color_map(halves, colors={70000: (1, 200, 3)}))
    assert (given[:, :4] == PALETTE[2]).all()
    assert (given[:, 8:] == (1, 200, 3)).all()


def test_color_map_by_category(halves: PanopticMap) -> None:
    picture = np.asarray(color_map(halves, colors="category"))
    assert (picture[:, :4] == PALETTE[7]).all()
    assert (picture[:, 4:8] == VOID_COLOR).all()
    assert (picture[:, 8:] == NO_CATEGORY).all()
    with pytest.raises(InputError, match=r"^colors: expected"):
        color_map(halves, colors="area")  # type: ignore[arg-type]


def test_overlay_mixes_tint_and_photo(halves: PanopticMap) -> None:
    photo = np.full((8, 12, 3), 100, dtype=np.uint8)
    picture = np.asarray(overlay(photo, halves, alpha=0.5, outline=False)).astype(int)
    expected = (100 + np.array(PALETTE[2])) / 2
    assert np.abs(picture[:, :4] - expected).max() <= 1
    void = picture[:, 4:8]
    assert (void == void[..., :1]).all()  # grey stays grey: no tint
    assert {100} < set(void.ravel().tolist())  # some of it hatched, some untouched


def test_overlay_with_alpha_0_and_1(halves: PanopticMap) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(overlay(photo, halves, alpha=0, outline=False)), photo)
    full = np.asarray(overlay(Image.fromarray(photo), halves, alpha=1, outline=False))
    np.testing.assert_array_equal(full[:, 8:], np.asarray(color_map(halves))[:, 8:])


def test_outline_lies_on_the_borders_only() -> None:
    ids = np.ones((8, 8), dtype=np.int32)
    ids[:, 4:] = 2
    photo = np.full((8, 8), 100, dtype=np.uint8)
    plain, lined = (np.asarray(overlay(photo, PanopticMap(ids), outline=o)) for o in (False, True))
    changed = (plain != lined).any(axis=2)
    assert changed[:, 3].all()
    changed[:, 3] = False
    assert not changed.any()


@pytest.mark.parametrize(
    ("photo", "alpha", "named"),
    [
        (np.zeros((8, 11, 3), dtype=np.uint8), 0.5, "image"),
        (np.zeros((8, 12, 3), dtype=np.float32), 0.5, "image"),
        (np.zeros((8, 12, 4), dtype=np.uint8), 0.5, "image"),
        (np.zeros((8, 12, 3), dtype=np.uint8), 1.5, "alpha"),
    ],
)
def test_overlay_names_the_bad_argument(halves: PanopticMap, photo: np.ndarray, alpha: float, named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: expected"):
        overlay(photo, halves, alpha=alpha)


def test_contact_sheet_places_every_picture() -> None:
    red, wide = Image.new("RGB", (10, 10), (255, 0, 0)), Image.new("L", (40, 20), 0)
    sheet = contact_sheet([[red, wide], [None, red]], tile=20, margin=2)
    assert sheet.size == (2 + 2 * 22, 2 + 2 * 22)
    pixels = np.asarray(sheet)
    assert (pixels[2:22, 2:22] == (255, 0, 0)).all()
    assert (pixels[7:17, 24:44] == 0).all()  # twice as wide as high: centred
    assert (pixels[2:7, 24:44] == 255).all()
    assert (pixels[24:44, 2:22] == 255).all()
    assert (pixels[24:44, 24:44] == (255, 0, 0)).all()


def test_a_sheet_of_wide_pictures_has_wide_tiles() -> None:
    wide = Image.new("RGB", (60, 20))
    assert contact_sheet([[wide, wide], [wide, None]], tile=30, margin=2).size == (2 + 2 * 32, 2 + 2 * 12)


def test_a_row_is_as_high_as_its_pictures() -> None:
    wide, square = Image.new("RGB", (30, 10), "red"), Image.new("RGB", (30, 30), "blue")
    sheet = contact_sheet([[wide, wide], [square, wide], [wide, wide]], tile=30, margin=2)
    assert sheet.size == (2 + 2 * 32, 2 + 12 + 32 + 12)
    assert [sheet.getpixel((17, y)) for y in (2, 11, 14, 43, 46, 55)] == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 2 + [(255, 0, 0)] * 2
    assert sheet.getpixel((50, 20)) == (255, 255, 255) and sheet.getpixel((50, 28)) == (255, 0, 0)  # in the middle of its row


def test_rows_side_by_side() -> None:
    one, two, three = (Image.new("RGB", (4, 4), color) for color in ("red", "green", "blue"))
    rows, titles = in_columns([[one, two], [two, three], [three]], ["photo", "map"], columns=2)
    assert rows == [[one, two, two, three], [three, None]]
    assert titles == ["photo", "map", "photo", "map"]
    assert in_columns([[one, two]], ["photo", "map"], columns=3) == ([[one, two]], ["photo", "map"])


def test_contact_sheet_titles_add_a_line() -> None:
    tiles = [[Image.new("RGB", (8, 8))] * 2]
    plain, titled = contact_sheet(tiles, tile=64), contact_sheet(tiles, titles=["photo", "map"], tile=64)
    assert titled.width == plain.width
    assert titled.height > plain.height
    assert (np.asarray(titled)[:14] < 128).any()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [[]]}, "rows"),
        ({"rows": [[Image.new("RGB", (4, 4))]], "titles": ["a", "b"]}, "titles"),
        ({"rows": [[Image.new("RGB", (4, 4))]], "tile": 0}, "tile, margin"),
    ],
)
def test_contact_sheet_names_the_bad_argument(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=f"^{named}: expected"):
        contact_sheet(**arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_pictures_and_scenes_need_no_torch() -> None:
    code = "import sys; import ldmseg.visualize, ldmseg.data.scenes; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_confidence_is_brighter_where_it_is_higher() -> None:
    picture = np.asarray(confidence_map(np.linspace(0, 1, 50)[None].repeat(3, 0)).convert("L")).astype(int)
    assert picture.shape == (3, 50)
    assert (np.diff(picture[0]) >= 0).all()
    assert picture[0, -1] - picture[0, 0] > 150
    for wrong in (np.full((2, 2), 1.5), np.full((2, 2), np.nan), np.zeros(4)):
        with pytest.raises(InputError, match="confidence: expected"):
            confidence_map(wrong)


def test_the_confidence_picture_has_a_bar_from_0_to_1() -> None:
    values = np.full((120, 300), 0.25)
    picture = np.asarray(confidence_picture(values))
    assert picture.shape[1] == 300
    np.testing.assert_array_equal(picture[:120], np.asarray(confidence_map(values)))
    bar = picture[120 + 14, 20:-20].astype(int)
    assert (np.diff(bar.sum(axis=1)) >= 0).all()
    assert bar[-1].sum() - bar[0].sum() > 300
    assert (picture[120:] < 90).all(axis=2).any()  # letters


def test_panels_give_a_given_segment_one_colour(halves: PanopticMap) -> None:
    photo = np.full((8, 12, 3), 128, dtype=np.uint8)
    full = PanopticMap(np.where(np.arange(12) < 6, 3, 19)[None].repeat(8, 0))  # ids that alone would have the same colour
    panels = np.asarray(completion_panels(photo, full, given=halves.keep([3]), colors={3: (10, 250, 10)}, tile=12)).astype(int)
    top = panels.shape[0] - 12
    given, drawn = panels[top + 4, 4 + 16 + 1], panels[top + 4, 4 + 32 + 1]
    assert given[1] > 200 > given[0]
    assert drawn[1] - drawn[0] > 100


def test_panels_show_what_there_is(halves: PanopticMap) -> None:
    photo = np.full((8, 12, 3), 128, dtype=np.uint8)
    alone = completion_panels(photo, halves, tile=64)
    everything = completion_panels(photo, halves, given=halves, confidence=np.ones((8, 12)), tile=64)
    assert everything.height > alone.height  # by the bar of the confidence
    assert (everything.width - 4) == 2 * (alone.width - 4)  # four panels against two, and one margin


def test_names_lie_on_their_segments_and_small_ones_have_none() -> None:
    ids = np.ones((80, 120), dtype=int)
    ids[:40], ids[78:, 118:] = 2, 3
    pmap = PanopticMap(ids, (Segment(1, 10), Segment(2), Segment(3, 10)))
    picture = color_map(pmap)
    found = np.asarray(captioned(picture, pmap, {10: "dog", 11: "cat"}))
    changed = (found != np.asarray(picture)).any(-1)
    assert changed[40:78, :118].any() and not changed[:40].any() and not changed[78:, 118:].any()
    ys, xs = np.nonzero(changed)
    assert abs(ys.mean() - 59.5) < 5 and abs(xs.mean() - 59.5) < 5
    assert captioned(picture, pmap, {}) == picture
