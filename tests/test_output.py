"""What the pipeline returns is written as the command line writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import files_in
from PIL import Image

from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import open_root
from ldmseg.inference.output import LDMSegOutput
from ldmseg.panoptic import PanopticMap

PMAP = PanopticMap(np.array([[0, 5, 5], [7, 7, 7]]))


def test_maps_are_written_with_their_pictures(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        Image.new("RGB", (3, 2), "red").save(tmp_path / f"{name}.jpg")
    photos = [tmp_path / "cat.jpg", str(tmp_path / "dog.jpg")]
    out = LDMSegOutput(maps=[PMAP, PMAP.flip()], confidence=[np.ones((2, 3), np.float32)] * 2)
    assert out.save(tmp_path / "out", photos) == tmp_path / "out" / "panoptic.json"
    assert files_in(tmp_path / "out") == {
        "panoptic.json",
        *(f"{name}{kind}.png" for name in ("cat", "dog") for kind in ("", "_overlay", "_confidence")),
    }
    assert [record.read_map().ids.tolist() for record in open_root(tmp_path / "out")] == [PMAP.ids.tolist(), PMAP.flip().ids.tolist()]


def test_names_are_counted_or_given(tmp_path: Path) -> None:
    LDMSegOutput(maps=[PMAP]).save(tmp_path / "counted", Image.new("RGB", (3, 2)))
    assert files_in(tmp_path / "counted") == {"panoptic.json", "0001.png", "0001_overlay.png"}
    LDMSegOutput(maps=[PMAP]).save(tmp_path / "named", names=["bird"])
    assert files_in(tmp_path / "named") == {"panoptic.json", "bird.png"}


@pytest.mark.parametrize(
    ("maps", "options", "told"),
    [
        ([PMAP.ids], {}, "save: expected maps of output_type panoptic"),
        ([PMAP], {"image": [Image.new("RGB", (3, 2))] * 2}, r"image: expected one per map \(1\), got 2"),
        ([PMAP], {"names": ["a", "b"]}, r"names: expected one per map \(1\), got 2"),
        ([PMAP, PMAP], {"names": ["a", "a"]}, "would both be written"),
        ([PMAP], {"names": ["../a"]}, "file_name: expected"),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, maps: list, options: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        LDMSegOutput(maps=maps).save(tmp_path / "out", **options)
