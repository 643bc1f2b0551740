"""Label Studio's machine learning backend: what its requests ask for, answered by a segmenter.

A task without a context is segmented as a whole. With one, strokes that were saved so far and the prompts (key points, rectangles) become a
partial map, and the segmenter completes it.
"""

from __future__ import annotations

import logging
import threading
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldmseg.connect.photo_source import PhotoSource
from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_json import Category
from ldmseg.formats.patches import Patch, ellipse
from ldmseg.formats.regions import Region, paint
from ldmseg.formats.tools.label_studio import Control, MaskKind, map_regions
from ldmseg.formats.tools.label_studio_regions import geometry_of, region_label, region_patch, task_regions
from ldmseg.panoptic import PanopticMap, Segment
from ldmseg.segmenters.base import Segmenter

logger = logging.getLogger(__name__)

MODEL_VERSION = "ldmseg"
OUTPUTS: dict[str, MaskKind] = {"BrushLabels": "brush", "BitmaskLabels": "bitmask", "PolygonLabels": "polygon"}
"""Tags whose labels answers can have, the first of an interface that it finds."""

PROPOSED = "prediction"
"""What `origin` says of a region that a person has not touched: no pin."""

KERNEL = 0.5
"""The share of a rectangle's width and height that surely is the object: an ellipse in its middle."""


@dataclass(frozen=True)
class Interface:
    """What a project's labelling interface says: how answers are named, and the labels they may have."""

    control: Control
    labels: tuple[str, ...]
    value: str

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(number, name) for number, name in enumerate(self.labels, start=1))


def read_interface(text: Any) -> Interface:
    """The first of `BrushLabels`, `BitmaskLabels` and `PolygonLabels`, and the picture that it is for.

    Raises:
        InputError: the interface is no XML, or has none of these.
    """
    if not isinstance(text, str) or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"label_config: expected the XML of a labelling interface, got {quoted(text)}")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"label_config: expected the XML of a labelling interface, got {quoted(text)}") from error
    pictures = {tag.get("name", ""): tag.get("value", "").removeprefix("$") for tag in root.iter("Image")}
    for name, kind in OUTPUTS.items():
        for tag in root.iter(name):
            to_name = tag.get("toName", "")
            labels = tuple(label.get("alias") or label.get("value") or "" for label in tag.iter("Label"))
            if labels and pictures.get(to_name):
                return Interface(Control(tag.get("name", ""), to_name, kind), labels, pictures[to_name])
    raise InputError(f"label_config: expected an <Image> and one of {', '.join(OUTPUTS)} with labels for it, found none")


@dataclass
class LabelStudioBackend:
    """Answers requests one at a time; a lock keeps threads from running the segmenter at once.

    Args:
        most: regions of an answer; browsers become slow with dozens of large masks. Given ones come first, then the largest.
    """

    segmenter: Segmenter
    photos: PhotoSource
    most: int = 32
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def predict(self, request: Any) -> dict[str, Any]:
        """The answer to `POST /predict`: a result per task, in order. A task whose photo cannot be read has an empty one, and is logged.

        Raises:
            InputError: the request is none of Label Studio's, or its strokes cannot be read.
        """
        if not isinstance(request, dict) or not isinstance(request.get("tasks"), list):
            raise InputError(f"request: expected an object with tasks, got {quoted(request)}")
        interface = read_interface(request.get("label_config"))
        params = request.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        results = context.get("result") if isinstance(context, dict) else None
        return {"results": [self._one(task, interface, results) for task in request["tasks"]]}

    def _one(self, task: Any, interface: Interface, context: Any) -> dict[str, Any]:
        data = task.get("data") if isinstance(task, dict) else None
        address = data.get(interface.value) if isinstance(data, dict) else None
        if not isinstance(address, str):
            raise InputError(f"request: expected the photo's address under data.{interface.value} of a task, got {quoted(data)}")
        try:
            photo = self.photos.read(address)
        except InputError as error:
            logger.warning("%s", error)
            return _answer([])
        seed = zlib.crc32(address.encode("utf-8", "replace"))
        if not isinstance(context, list):
            pmap = self._segment(photo, None, seed)
            return _answer(map_regions(_labelled(pmap, {}), _names(interface), interface.control)[: self.most], pmap)
        given = read_prompts([*_strokes(task), *context], photo.shape[:2], interface.categories)
        return self._completed(photo, given, interface, seed)

    def _completed(self, photo: NDArray[np.uint8], given: Given, interface: Interface, seed: int) -> dict[str, Any]:
        pmap = self._segment(photo, given.partial, seed)
        ids = pmap.ids.copy()
        for segment_id, box in given.boxes.items():  # the object lies in its box
            outside = ~box.full(*pmap.shape)
            ids[(ids == segment_id) & outside] = 0
        pmap = _labelled(pmap.with_ids(ids), {s.id: s.category_id for s in given.partial.segments})
        wanted = [s.id for s in pmap.segments if s.id in given.shown]
        others = [s.id for s in pmap.segments if s.id not in given.partial_ids]
        shown = map_regions(pmap, _names(interface), interface.control, only=wanted)
        rest = map_regions(pmap, _names(interface), interface.control, only=others)
        return _answer([*shown, *rest][: self.most], pmap)

    def _segment(self, photo: NDArray[np.uint8], partial: PanopticMap | None, seed: int) -> PanopticMap:
        with self._lock:
            return self.segmenter([photo], None if partial is None else [partial], [seed])[0]


# ------------------------------------------------------------------------------------------------------------------------ prompts
@dataclass(frozen=True)
class Given:
    """What a person has drawn, as a partial map.

    Attributes:
        shown: ids of segments that the answer is to have: those of the request's prompts and strokes.
        boxes: the rectangle of each segment that was given as one.
    """

    partial: PanopticMap
    shown: frozenset[int]
    boxes: Mapping[int, Patch]

    @property
    def partial_ids(self) -> frozenset[int]:
        return frozenset(s.id for s in self.partial.segments)


def read_prompts(results: Sequence[Any], shape: tuple[int, int], categories: tuple[Category, ...]) -> Given:
    """Regions of a draft and of a context -> a partial map; the later ones lie on top.

    Key points of one label belong to one object. A negative key point (Alt-click) is of something else, which the answer does not show.
    Of a rectangle, an ellipse in its middle is given.

    Raises:
        InputError: a region is damaged, or was drawn on a photo of another size.
    """
    height, width = shape
    regions: list[Region] = []
    boxes: list[tuple[int, Patch]] = []
    negative: set[int] = set()
    by_name = {category.name: category.id for category in categories}
    labels: dict[str, str] = {}  # of `<Labels>` beside a tool, only one of the two entries of a region has the label
    for one in results:
        if isinstance(one, dict) and (named := region_label(one)) is not None:
            labels.setdefault(str(one.get("id")), named)
    wanted = [r for r in results if isinstance(r, dict) and geometry_of(r) is not None and r.get("origin") != PROPOSED]
    task = task_regions(wanted, "request")
    if task is not None and (task.height, task.width) != shape:
        raise InputError(f"request: expected regions on the photo's {width} x {height} pixels, got {task.width} x {task.height}")
    for number, one in enumerate(() if task is None else task.results):
        where = f"request: result[{number}]"
        kind, label = geometry_of(one), labels.get(str(one.get("id")))
        patch = region_patch(one, height, width, where)
        group: tuple[str, str] = ("region", str(one.get("id", number)))
        if kind == "keypoint":
            positive = one.get("is_positive", True) is not False
            group = ("points", str(label)) if positive else ("not", str(number))
            if not positive:
                negative.add(number)
        elif kind == "rectangle":
            boxes.append((number, patch))
            patch = _kernel(patch, height, width)
        regions.append(Region(patch, by_name.get(label or ""), group=group))
    partial = paint(regions, height, width, categories)
    ids = _numbers(regions)
    present = {s.id for s in partial.segments}
    shown = frozenset({ids[n] for n in range(len(regions)) if n not in negative} & present)
    return Given(partial, shown, {ids[n]: patch for n, patch in boxes if ids[n] in present})


def _numbers(regions: Sequence[Region]) -> list[int]:
    """The id that `paint` gives to each region."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(region.group, len(numbers) + 1) for region in regions]


def _kernel(box: Patch, height: int, width: int) -> Patch:
    rows, columns = box.mask.shape
    centre = (box.left + columns / 2, box.top + rows / 2)
    return ellipse(centre, (max(1.0, columns * KERNEL / 2), max(1.0, rows * KERNEL / 2)), height, width)


def _strokes(task: Mapping[str, Any]) -> list[Any]:
    """What was saved of a task's newest draft, or else annotation: Label Studio sends no strokes with a prompt."""
    for key in ("drafts", "annotations"):
        found = [one["result"] for one in task.get(key) or () if isinstance(one, dict) and isinstance(one.get("result"), list)]
        if found:
            return found[0] if key == "drafts" else found[-1]
    return []


def _names(interface: Interface) -> dict[int, str]:
    return {category.id: category.name for category in interface.categories}


def _labelled(pmap: PanopticMap, categories: Mapping[int, int | None]) -> PanopticMap:
    """The model names nothing: what has no label of a person's gets the interface's first, to be changed."""
    return PanopticMap(pmap.ids, tuple(Segment(s.id, categories.get(s.id) or 1, score=s.score) for s in pmap.segments))


def _answer(regions: list[dict[str, Any]], pmap: PanopticMap | None = None) -> dict[str, Any]:
    scores = [s.score for s in pmap.segments if s.score is not None] if pmap is not None else []
    return {"result": regions, "score": float(np.mean(scores)) if scores else 0.0, "model_version": MODEL_VERSION}
