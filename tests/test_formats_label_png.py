from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzz_mutations import png_chunks, png_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.id_png import ids_to_rgb, read_id_png, rgb_to_ids, write_id_png
from ldmseg.formats.label_png import read_label_png, write_label_png
from ldmseg.panoptic import PanopticMap

shapes = array_shapes(min_dims=2, max_dims=2, max_side=6)
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@pytest.mark.parametrize(("highest", "mode"), [(255, "L"), (65535, "I;16"), (2**24 - 1, "RGB"), (2**31 - 1, "RGBA")])
@few
@given(data=st.data())
def test_ids_survive_at_every_depth(tmp_path: Path, highest: int, mode: str, data: st.DataObject) -> None:
    ids = data.draw(arrays(np.int32, shapes, elements=st.integers(0, highest))).copy()
    ids[0, 0] = highest
    path = tmp_path / "x.png"
    write_label_png(path, PanopticMap(ids))
    with Image.open(path) as picture:
        assert picture.mode == mode
    assert read_label_png(path) == PanopticMap(ids)


def test_a_void_map_survives(tmp_path: Path) -> None:
    write_label_png(tmp_path / "x.png", PanopticMap(np.zeros((3, 4), np.int32)))
    read = read_label_png(tmp_path / "x.png")
    assert read.shape == (3, 4) and len(read) == 0


def save(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path


def test_pictures_of_other_programs(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 3]], np.uint8))
    palette.putpalette([0] * 9 + [255, 0, 0], "RGB")
    drawn = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [9, 9, 9, 0], [0, 0, 255, 255]]], np.uint8)
    opaque = Image.fromarray(np.array([[[1, 0, 0, 255], [0, 1, 0, 255]]], np.uint8))
    cases = [
        (save(palette, tmp_path / "p.png"), [[0, 3]]),
        (save(Image.fromarray(np.array([[False, True]])), tmp_path / "1.png"), [[0, 1]]),
        (save(Image.fromarray(np.array([[0, 70000]], np.int32)), tmp_path / "i.tif"), [[0, 70000]]),
        (save(opaque, tmp_path / "rgba.png"), [[1, 256]]),
        (save(Image.fromarray(drawn), tmp_path / "layer.png"), [[255, 0, 0, 255 << 16]]),
        (save(Image.fromarray(drawn[..., 2:]), tmp_path / "la.png"), [[0, 0, 0, 255]]),
    ]
    for path, expected in cases:
        assert read_label_png(path).ids.tolist() == expected, path


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Image.new("CMYK", (2, 2)), "got mode CMYK"),
        (Image.fromarray(np.ones((2, 2), np.float32)), "got mode F"),
        (Image.fromarray(np.array([[-1, 2]], np.int32)), "got -1"),
        (Image.fromarray(np.array([[[9, 0, 0, 255], [9, 0, 0, 130]]], np.uint8)), "expected alpha 0 .* or 255, got 1 pixels"),
    ],
)
def test_pictures_that_hold_no_ids(tmp_path: Path, picture: Image.Image, reason: str) -> None:
    path = save(picture, tmp_path / ("x.png" if picture.mode in ("LA", "RGBA") else "x.tif"))
    with pytest.raises(InputError, match=reason) as caught:
        read_label_png(path)
    assert str(path) in str(caught.value)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_label_png(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(InputError, match="it is empty"):
        read_label_png(tmp_path / "x.png")
    path = save(Image.effect_noise((64, 64), 90), tmp_path / "y.png")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"label: cannot read '.*y\.png'"):
        read_label_png(path)


@few
@given(arrays(np.int32, shapes, elements=st.integers(0, 2**24 - 1)))
def test_colours_are_the_ids_little_endian(ids: np.ndarray) -> None:
    rgb = ids_to_rgb(ids)
    assert np.array_equal(rgb[..., 0] + 256 * rgb[..., 1].astype(int) + 65536 * rgb[..., 2].astype(int), ids)
    assert rgb_to_ids(rgb).dtype == np.int32
    assert np.array_equal(rgb_to_ids(rgb), ids)
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids[:, ::-1])), ids[:, ::-1])


@pytest.mark.parametrize("ids", [[[-1]], [[2**24]], [[0.5]]])
def test_ids_that_no_colour_has(ids: list) -> None:
    with pytest.raises(InputError, match="ids: expected"):
        ids_to_rgb(ids)


def test_colours_that_are_none() -> None:
    for wrong in (np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.int32)):
        with pytest.raises(InputError, match="rgb: expected"):
            rgb_to_ids(wrong)


def test_id_pictures(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 256], [65536, 2**24 - 1, 7]])
    path = tmp_path / "x.png"
    write_id_png(path, ids)
    assert read_id_png(path).tolist() == ids.tolist()
    with Image.open(path) as picture:
        picture.convert("RGBA").save(tmp_path / "rgba.png")
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    assert read_id_png(tmp_path / "rgba.png").tolist() == ids.tolist()
    assert read_id_png(tmp_path / "p.png").tolist() == ids.tolist()
    Image.new("L", (2, 2)).save(tmp_path / "gray.png")
    with pytest.raises(InputError, match="expected an RGB picture"):
        read_id_png(tmp_path / "gray.png")


def test_more_transparencies_than_colours_are_refused(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 2))
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "a.png", transparency=bytes(2))
    header, *rest = png_chunks((tmp_path / "a.png").read_bytes())
    damaged = [(kind, bytes(300) if kind == b"tRNS" else content) for kind, content in rest]
    (tmp_path / "a.png").write_bytes(png_of([header, *damaged]))
    with pytest.raises(InputError, match="palette index"):
        read_label_png(tmp_path / "a.png")
