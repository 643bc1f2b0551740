from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from oracle import ask
from test_connect_label_studio import HEIGHT, WIDTH, Halves

from ldmseg.connect.cvat import complete, mask_points, partial_of, prelabel, shape_patch
from ldmseg.errors import InputError
from ldmseg.formats.regions import cutouts
from ldmseg.panoptic import PanopticMap

PHOTO = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)


@dataclass
class Shape:
    """The fields of `cvat_sdk.models.LabeledShape` that are read."""

    type: Any
    points: list[float]
    label_id: int = 5
    frame: int = 0
    z_order: int = 0
    rotation: float = 0.0
    group: int | None = 0
    further: dict[str, Any] = field(default_factory=dict)


def test_masks_as_the_sdk_has_them() -> None:
    ids = np.zeros((5, 6), dtype=int)
    ids[1:4, 2:6] = 1
    (cutout,) = cutouts(PanopticMap(ids))
    assert mask_points(cutout) == (0, 12, 2, 1, 5, 3)
    assert (shape_patch("mask", mask_points(cutout), 0, 5, 6, "here").full(5, 6) == (ids == 1)).all()


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("polygon", [2, 3, 10, 3, 10, 8, 2, 8], (2, 3, 8, 5)),
        ("rectangle", [2, 3, 10, 8], (2, 3, 8, 5)),
        ("ellipse", [10, 10, 16, 7], (4, 7, 12, 6)),
        ("polyline", [2.5, 10.5, 12.5, 10.5], (0, 8, 15, 5)),
        ("points", [10.5, 10.5, 20.5, 10.5], (8, 8, 15, 5)),
    ],
)
def test_shapes(kind: str, points: list[float], box: tuple[int, ...]) -> None:
    for name in (kind, SimpleNamespace(value=kind)):  # the SDK has an enumeration
        pmap = partial_of([Shape(name, points)], HEIGHT, WIDTH)
        assert tuple(pmap.boxes[0].tolist()) == box and pmap.segments[0].category_id == 5


def test_layers_and_groups() -> None:
    shapes = [Shape("rectangle", [0, 0, 6, 4], z_order=1), Shape("rectangle", [4, 0, 9, 4], 6), Shape("rectangle", [20, 0, 22, 4], group=3)]
    pmap = partial_of([*shapes, Shape("rectangle", [30, 0, 32, 4], group=3)], HEIGHT, WIDTH)
    assert pmap.ids[0, [5, 7, 21, 31]].tolist() == [1, 2, 3, 3]


@pytest.mark.parametrize(("kind", "points"), [("cuboid", [1, 2]), ("polygon", [1, 2]), ("mask", [1, 2]), ("mask", [9, 0, 0, 3, 3])])
def test_shapes_that_cannot_be_read(kind: str, points: list[float]) -> None:
    with pytest.raises(InputError, match=r"shapes\[0\]|run lengths"):
        partial_of([Shape(kind, points)], HEIGHT, WIDTH)


def test_a_photo_without_labels() -> None:
    assert [mask.label_id for mask in prelabel(Halves(), PHOTO, "a.jpg", 3)] == [3, 3]


def test_completed_masks_leave_the_shapes_alone() -> None:
    shapes = [Shape("rectangle", [2, 2, 8, 8]), Shape("polyline", [30.5, 2.5, 30.5, 20.5], 6)]
    given = partial_of(shapes, HEIGHT, WIDTH).ids > 0
    added = complete(Halves(), PHOTO, "a.jpg", shapes, 9)
    drawn = [shape_patch("mask", mask.points, 0, HEIGHT, WIDTH, "").full(HEIGHT, WIDTH) for mask in added]
    assert [mask.label_id for mask in added] == [5, 6]
    assert (np.sum(drawn, axis=0) + given == 1).all()
    assert complete(Halves(), PHOTO, "a.jpg", [Shape("rectangle", [0, 0, WIDTH, HEIGHT])], 9) == []


@pytest.mark.slow
def test_the_sdk_takes_the_function_and_its_masks() -> None:
    """Its own loader's checks of specifications and results, offline; the function's module runs with a stand-in for the model."""
    from pathlib import Path

    import ldmseg

    (mask, *_) = prelabel(Halves(), PHOTO, "a.jpg", 0)
    code = """
import sys, types
from types import SimpleNamespace
import numpy as np
stub = types.ModuleType("ldmseg.connect.cvat")
stub.prelabel = lambda segmenter, photo, name, label: [SimpleNamespace(label_id=label, points=given["points"])]
image = types.ModuleType("ldmseg.formats.image")
image.read_image = lambda picture: picture
base = types.ModuleType("ldmseg.segmenters.base")
base.Segmenter = object
for name in ("ldmseg", "ldmseg.connect", "ldmseg.formats", "ldmseg.segmenters"):
    sys.modules[name] = types.ModuleType(name)
sys.modules.update({"ldmseg.connect.cvat": stub, "ldmseg.formats.image": image, "ldmseg.segmenters.base": base})
import runpy
module = runpy.run_path(given["file"])
function = module["Function"](None, "thing")
from PIL import Image
import cvat_sdk.masks
(shape,) = function.detect(SimpleNamespace(frame_name="a.jpg"), Image.new("RGB", (given["width"], given["height"])))
from cvat_sdk.models import LabeledShapeRequest
decoded = cvat_sdk.masks.decode_mask(shape.points, image_width=given["width"], image_height=given["height"])
labels = [label.name for label in function.spec.labels]
answer = [labels, str(shape.type), isinstance(shape, LabeledShapeRequest), decoded.astype(int).tolist()]
"""
    file = Path(ldmseg.__file__).parent / "connect" / "cvat_function.py"
    given = {"file": str(file), "points": list(mask.points), "width": WIDTH, "height": HEIGHT}
    labels, kind, is_request, decoded = ask("cvat_sdk", code, given)
    assert labels == ["thing"] and kind == "mask" and is_request
    assert (np.array(decoded, dtype=bool) == shape_patch("mask", mask.points, 0, HEIGHT, WIDTH, "").full(HEIGHT, WIDTH)).all()
