from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldmseg.dense import DepthMap
from ldmseg.errors import InputError
from ldmseg.formats.depth_png import DepthWriter, read_depth_png, write_depth_png


def test_round_trip(tmp_path: Path) -> None:
    depth = DepthMap(np.array([[0.001, 1.0, 2.503], [np.nan, 16.0, 255.9]]), "miles")
    write_depth_png(tmp_path / "a.png", depth)
    again = read_depth_png(tmp_path / "a.png", "miles")
    assert np.array_equal(again.known, depth.known) and again.unit == "miles"
    assert np.nanmax(np.abs(again.values - depth.values)) <= 1 / 256
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[1, 256, 641], [0, 4096, 65510]]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"depth: expected at most 256.00 for a 16-bit PNG, got 300.00"):
        write_depth_png(tmp_path / "a.png", DepthMap(np.full((1, 1), 300.0)))
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.png").write_bytes(b"x")
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    for name in ("missing.png", "b.png", "c.png"):
        with pytest.raises(InputError, match=r"^depth: expected a .*16"):
            read_depth_png(tmp_path / name)


def test_a_folder_says_what_its_numbers_are(tmp_path: Path) -> None:
    with DepthWriter(tmp_path) as writer:
        assert writer.add("x.jpg", 3, DepthMap(np.ones((2, 3)), "miles")) == tmp_path / "x.png"
        with pytest.raises(InputError, match="expected the unit of the images before, miles, got metres"):
            writer.add("y.jpg", 4, DepthMap(np.ones((2, 3))))
    told = json.loads((tmp_path / "depth.json").read_text())
    assert told["unit"] == "miles" and told["scale"] == 256
    assert told["images"] == [{"id": 3, "file_name": "x.jpg", "depth_file": "x.png", "height": 2, "width": 3}]


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    with DepthWriter(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
