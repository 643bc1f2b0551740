from __future__ import annotations

import sys
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from oracle import ask
from PIL import Image
from test_connect_label_studio import HEIGHT, WIDTH, Halves

import ldmseg
from ldmseg.connect.cvat import complete, mask_points, partial_of, prelabel, shape_patch
from ldmseg.connect.cvat_task import complete_task
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


class Request(SimpleNamespace):
    """In place of the SDK's models, which take any fields."""


class Task:
    """A task of two frames with one shape on the first."""

    def __init__(self) -> None:
        self.pushed: list[tuple[Any, Any]] = []

    def get_labels(self) -> list[Any]:
        return [SimpleNamespace(name="cell", id=5), SimpleNamespace(name="wall", id=6)]

    def get_annotations(self) -> Any:
        return SimpleNamespace(shapes=[Shape("rectangle", [2, 2, 8, 8]), Shape("points", [3, 3], 6, frame=1)])

    def get_frames_info(self) -> list[Any]:
        return [SimpleNamespace(name="a.png"), SimpleNamespace(name="b.png")]

    def get_frame(self, number: int, *, quality: str) -> BytesIO:
        assert quality == "original"
        buffer = BytesIO()
        Image.fromarray(PHOTO).save(buffer, format="PNG")
        return BytesIO(buffer.getvalue())

    def update_annotations(self, data: Any, *, action: Any) -> None:
        self.pushed.append((data, action))


def test_a_task_is_completed_by_adding_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, members in {
        "cvat_sdk": {},
        "cvat_sdk.core": {},
        "cvat_sdk.core.proxies": {},
        "cvat_sdk.core.proxies.annotations": {"AnnotationUpdateAction": SimpleNamespace(CREATE="create")},
        "cvat_sdk.models": {"LabeledShapeRequest": Request, "PatchedLabeledDataRequest": Request},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)
    task = Task()
    client = SimpleNamespace(tasks=SimpleNamespace(retrieve=lambda number: task))
    report = complete_task(client, 3, Halves())
    assert report.frames == 2 and report.masks == 2
    assert [(data.shapes[0].frame, data.shapes[0].label_id, action) for data, action in task.pushed] == [(0, 5, "create"), (1, 6, "create")]
    with pytest.raises(InputError, match="--label: expected one of cell, wall, got 'sky'"):
        complete_task(client, 3, Halves(), "sky")


@pytest.mark.slow
def test_the_sdk_takes_the_function_and_its_masks() -> None:
    """Its own loader, specification and check of results, offline; a stand-in takes the model's place."""
    (mask, *_) = prelabel(Halves(), PHOTO, "a.jpg", 0)
    code = """
import logging, sys, types
from pathlib import Path
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
def module(name, **members):
    made = sys.modules[name] = types.ModuleType(name)
    made.__dict__.update(members)
for name in ("ldmseg", "ldmseg.connect", "ldmseg.formats", "ldmseg.segmenters"):
    module(name)
class Pipe:
    from_pretrained = classmethod(lambda cls, name: cls())
    to = lambda self, device: self
    set_progress_bar_config = lambda self, disable: None
asked = {}
module("ldmseg.pipeline", LDMSegPipeline=Pipe)
module("ldmseg.devices", resolve_device=lambda name: name)
module("ldmseg.segmenters.diffusion", PipelineSegmenter=lambda pipe, **options: asked.update(options))
module("ldmseg.segmenters.base", Segmenter=object)
module("ldmseg.formats.image", read_image=lambda picture: picture)
prelabel = lambda segmenter, photo, name, label: [SimpleNamespace(label_id=label, points=given["points"])]
module("ldmseg.connect.cvat", prelabel=prelabel)

import cvat_sdk.masks
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.auto_annotation.driver import _AnnotationMapper
from cvat_sdk.models import Label
from PIL import Image
function = FunctionLoader(None, Path(given["file"]), {"steps": 8, "label": "thing"}).load()
task_labels = [SimpleNamespace(name="thing", id=77, type="mask", attributes=[], sublabels=[])]
mapper = _AnnotationMapper(logging.getLogger(), function.spec.labels, task_labels, allow_unmatched_labels=False, conv_mask_to_poly=False)
shapes = function.detect(SimpleNamespace(frame_name="a.jpg"), Image.new("RGB", (given["width"], given["height"])))
_, (shape,) = mapper.validate_and_remap(shapes, 4)
decoded = cvat_sdk.masks.decode_mask(shape.points, image_width=given["width"], image_height=given["height"])
answer = [asked, shape.label_id, shape.frame, str(shape.type), decoded.astype(int).tolist()]
"""
    file = Path(ldmseg.__file__).parent / "connect" / "cvat_function.py"
    given = {"file": str(file), "points": list(mask.points), "width": WIDTH, "height": HEIGHT}
    asked, label, frame, kind, decoded = ask("cvat_cli", code, given)
    assert asked == {"num_inference_steps": 8} and (label, frame, kind) == (77, 4, "mask")
    assert (np.array(decoded, dtype=bool) == shape_patch("mask", mask.points, 0, HEIGHT, WIDTH, "").full(HEIGHT, WIDTH)).all()
