"""Label Studio: tasks whose annotations are lists of regions, in percent of the photo's size or as masks."""

from __future__ import annotations

import base64
import binascii
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.brush_rle import decode_brush, encode_brush
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_layout import listed, root_folder
from ldmseg.formats.image import BROKEN_IMAGE, one_line, open_image
from ldmseg.formats.json_file import read_json
from ldmseg.formats.patches import Patch, ellipse, points_of, polygon, stroke, turned
from ldmseg.formats.regions import Cutout, Region, checked_size, cutouts, paint
from ldmseg.formats.tools.base import ToolFiles, ToolRecord, broken_record, find_photo, named_categories, photo_folders, photo_name
from ldmseg.panoptic import PanopticMap

MaskKind = Literal["brush", "bitmask", "polygon"]
"""How a segment is written: run lengths of a brush, a picture, or an outline in percent."""

GEOMETRIES = ("brush", "bitmask", "polygon", "rectangle", "ellipse", "keypoint")
POINT_WIDTH = 5.0
"""Pixels across of a key point, if its own width is less."""

UPLOAD_PREFIX = 9
"""Characters that Label Studio puts before the name of an uploaded file: eight hexadecimal digits and a dash."""


@dataclass(frozen=True)
class TaskRegions:
    """Regions of a task that have pixels, as they are in JSON, and the size of the photo on which they were drawn."""

    results: tuple[Mapping[str, Any], ...]
    height: int
    width: int


def open_label_studio(root: Path, split: str | None = None) -> ToolFiles:
    """`label-studio:EXPORT.json`, or a folder with one JSON: an export of kind JSON. Photos are found by name beside it or in `images/`.

    Of a task, the last annotation that was not skipped is read; tasks without one are left out. Later regions lie over earlier ones.

    Raises:
        InputError: there is no such file, or it is no export.
    """
    if split is not None:
        raise InputError(f"split: expected none, because an export of Label Studio has no splits, got '{split}'")
    path = root if root.is_file() else _only_json(root)
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"json: '{path}': expected a list of tasks (an export of kind JSON), got {quoted(tasks)}")
    chosen = [(number, task, result) for number, task in enumerate(tasks) if (result := _last_result(task)) is not None]
    if not chosen:
        raise InputError(f"json: '{path}': expected a task with an annotation, found none")
    labels = {region_label(region) for _, _, result in chosen for region in result}
    categories = named_categories(path.parent, (name for name in labels if name is not None))
    folders = photo_folders(path.parent, None)
    records = []
    for number, task, result in chosen:
        where = f"json: '{path}': task {shortened(task.get('id', number))}"
        try:
            name = task_photo(task, where)
            photo = find_photo(folders, name)
            shorter = name[UPLOAD_PREFIX:]
            if not photo.is_file() and name[UPLOAD_PREFIX - 1 : UPLOAD_PREFIX] == "-" and shorter:
                name, photo = shorter, find_photo(folders, shorter)
            records.append(ToolRecord(name, str(task.get("id", number)), path, photo, partial(_draw, where, tuple(result), categories)))
        except InputError as error:
            records.append(broken_record(path, error))
    return ToolFiles(categories, tuple(records))


def _only_json(root: Path) -> Path:
    found = listed(root_folder(root), "*.json")
    if len(found) != 1:
        raise InputError(f"root: expected one *.json in '{root}', found {len(found)}; name the file")
    return found[0]


def _last_result(task: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    annotations = task.get("annotations")
    for annotation in reversed(annotations if isinstance(annotations, list) else []):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled") and isinstance(annotation.get("result"), list):
            return [region for region in annotation["result"] if isinstance(region, dict)]
    return None


def task_photo(task: Mapping[str, Any], where: str) -> str:
    """The name of a task's photo, without folders: what stands last in its address.

    Raises:
        InputError: the task has no photo, or it has no name.
    """
    data = task.get("data")
    url = next((v for v in data.values() if isinstance(v, str) and v), None) if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        url = data["image"]
    if url is None:
        raise InputError(f"{where}: data: expected the address of a photo, got {quoted(data)}")
    parts = urlsplit(url)
    local = parse_qs(parts.query).get("d", [""])[0]  # of `/data/local-files/?d=folder/photo.jpg`
    return photo_name(unquote(local or parts.path).replace("\\", "/").rpartition("/")[2], f"{where}: data")


def _draw(where: str, results: tuple[Mapping[str, Any], ...], categories: tuple[Category, ...]) -> PanopticMap:
    found = task_regions(results, where)
    if found is None:
        raise InputError(f"{where}: expected regions with pixels, found none, so the photo's size is not known")
    return paint(read_regions(found, categories, where), found.height, found.width, categories)


# ------------------------------------------------------------------------------------------------------------------------ regions in
def region_label(region: Mapping[str, Any]) -> str | None:
    """The first label of a region, None where it has none."""
    value = region.get("value")
    if not isinstance(value, dict):
        return None
    for key in (str(region.get("type")), "labels"):
        names = value.get(key)
        if key.endswith("labels") and isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    return None


def geometry_of(region: Mapping[str, Any]) -> str | None:
    """`brush`, `polygon` ..; None for what has no pixels (choices, texts, relations)."""
    kind = str(region.get("type")).removesuffix("labels")
    if kind in GEOMETRIES:
        return kind
    value = region.get("value")
    if kind or not isinstance(value, dict):  # of `<Labels>` beside a tool, the type says nothing of the geometry
        return None
    if "height" in value and "rotation" in value and "radiusX" not in value:
        return "rectangle"
    told = {"rle": "brush", "touches": "brush", "imageDataURL": "bitmask", "points": "polygon", "radiusX": "ellipse"}
    return next((geometry for key, geometry in told.items() if key in value), None)


def task_regions(results: Sequence[Mapping[str, Any]], where: str) -> TaskRegions | None:
    """Regions that have pixels; None if there are none.

    Raises:
        InputError: they were drawn on photos of different sizes, or on one that was turned.
    """
    found = [region for region in results if geometry_of(region) is not None]
    if not found:
        return None
    place = f"{where}: original_width, original_height"
    sizes = {checked_size(region.get("original_height"), region.get("original_width"), place) for region in found}
    if len(sizes) > 1 or any(region.get("image_rotation") for region in found):
        raise InputError(f"{where}: expected regions on one photo that was not turned, got sizes {quoted(sorted(sizes))}")
    return TaskRegions(tuple(found), *next(iter(sizes)))


def read_regions(task: TaskRegions, categories: Iterable[Category], where: str) -> list[Region]:
    """Regions as pixels; entries of the same `id` are one region.

    Raises:
        InputError: a region is damaged.
    """
    by_name = {category.name: category.id for category in categories}
    found: list[Region] = []
    positions: dict[str, int] = {}
    for number, region in enumerate(task.results):
        label = region_label(region)
        category = None if label is None else by_name.get(label)
        identity = str(region.get("id", number))
        if identity in positions:  # the geometry again, with the label in one of the two
            at = positions[identity]
            if found[at].category_id is None:
                found[at] = Region(found[at].patch, category, group=identity)
            continue
        positions[identity] = len(found)
        found.append(Region(region_patch(region, task.height, task.width, f"{where}: result[{number}]"), category, group=identity))
    return found


def region_patch(region: Mapping[str, Any], height: int, width: int, where: str) -> Patch:
    """The pixels of one region of a result, drafts among them (which have strokes in place of run lengths).

    Raises:
        InputError: its geometry is unknown or damaged.
    """
    kind, value = geometry_of(region), region.get("value")
    if kind is None or not isinstance(value, dict):
        raise InputError(f"{where}: expected one of {', '.join(GEOMETRIES)}, got {quoted(region.get('type'))}")
    if kind == "brush":
        if "rle" in value:
            return Patch.of(decode_brush(value["rle"], height, width, f"{where}: rle") >= 128)
        return _touched(value.get("touches"), height, width, where)
    if kind == "bitmask":
        return _bitmask(value.get("imageDataURL"), height, width, where)
    if kind == "polygon":
        points = points_of(value.get("points"), 3, f"{where}: points") * (width / 100, height / 100)
        return polygon(points, height, width)
    x, y = _percent(value, "x", where) * width, _percent(value, "y", where) * height
    if kind == "keypoint":
        return stroke([(x, y)], max(POINT_WIDTH, _percent(value, "width", where, 0.0) * width), height, width)
    angle = _percent(value, "rotation", where, 0.0) * 100
    if kind == "ellipse":
        radii = (_percent(value, "radiusX", where) * width, _percent(value, "radiusY", where) * height)
        return ellipse((x, y), radii, height, width, angle)
    right, bottom = x + _percent(value, "width", where) * width, y + _percent(value, "height", where) * height
    return polygon(turned([(x, y), (right, y), (right, bottom), (x, bottom)], (x, y), angle), height, width)  # about its first corner


def _percent(value: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """A share of 1; Label Studio has percent."""
    number = value.get(key, default)
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not abs(number) <= 1e6:
        raise InputError(f"{where}: {key}: expected a number, got {quoted(number)}")
    return number / 100


def _touched(touches: Any, height: int, width: int, where: str) -> Patch:
    """Strokes of a brush and an eraser, one after another; points and widths in percent (widths of the photo's width)."""
    if not isinstance(touches, list) or not touches:
        raise InputError(f"{where}: expected run lengths (rle) or strokes (touches), got {quoted(touches)}")
    mask = np.zeros((height, width), dtype=bool)
    for touch in touches:
        if not isinstance(touch, dict):
            raise InputError(f"{where}: touches: expected strokes, got {quoted(touch)}")
        points = points_of(touch.get("relativePoints"), 1, f"{where}: relativePoints") * (width / 100, height / 100)
        thickness = _percent(touch, "relativeStrokeWidth", where) * width
        drawn = stroke(points, max(1.5, thickness), height, width)
        drawn.within(mask)[drawn.mask] = touch.get("type") != "eraser"
    return Patch.of(mask)


def _bitmask(url: Any, height: int, width: int, where: str) -> Patch:
    head, _, text = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not head.startswith("data:image/") or not head.endswith(";base64"):
        raise InputError(f"{where}: imageDataURL: expected a picture as a data URL, got {quoted(url)}")
    try:
        with open_image(BytesIO(base64.b64decode(text, validate=True))) as image:
            alpha = np.asarray(image.convert("RGBA"))[..., 3] >= 128
    except (binascii.Error, *BROKEN_IMAGE) as error:
        raise InputError(f"{where}: imageDataURL: {shortened(one_line(error), 100)}") from error
    if alpha.shape != (height, width):
        raise InputError(f"{where}: imageDataURL: expected {width} x {height} pixels, got {alpha.shape[1]} x {alpha.shape[0]}")
    return Patch.of(alpha)


# ----------------------------------------------------------------------------------------------------------------------- regions out
@dataclass(frozen=True, slots=True)
class Control:
    """The names of a labelling interface's tags: the one with the labels, and the picture that it is for."""

    from_name: str = "tag"
    to_name: str = "image"
    kind: MaskKind = "brush"


def map_regions(pmap: PanopticMap, names: Mapping[int, str], control: Control, only: Iterable[int] | None = None) -> list[dict[str, Any]]:
    """Segments as regions of a result, the largest first. Brush and bitmask regions hold the pixels exactly, outlines too.

    Args:
        names: labels by category; a segment without one is labelled "segment".
        only: ids of the segments that are wanted; all, if left out.
    """
    wanted = None if only is None else set(only)
    height, width = pmap.shape
    found = []
    for cutout in sorted(cutouts(pmap), key=lambda one: -one.area):
        segment = cutout.segment
        if wanted is not None and segment.id not in wanted:
            continue
        kind = f"{control.kind}labels"
        label = names.get(segment.category_id or 0, "segment")
        region: dict[str, Any] = {
            "id": f"ldmseg{segment.id}",
            "type": kind,
            "from_name": control.from_name,
            "to_name": control.to_name,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**_value(cutout, height, width, control.kind), kind: [label]},
        }
        found.append(region if segment.score is None else region | {"score": segment.score})
    return found


def _value(cutout: Cutout, height: int, width: int, kind: MaskKind) -> dict[str, Any]:
    if kind == "polygon":
        return {"points": (cutout.ring() * (100 / width, 100 / height)).tolist(), "closed": True}
    mask = cutout.patch.full(height, width)
    if kind == "brush":
        return {"format": "rle", "rle": encode_brush(mask)}
    black_on_nothing = np.stack([np.zeros_like(mask, dtype=np.uint8), np.where(mask, np.uint8(255), np.uint8(0))], axis=-1)
    buffer = BytesIO()
    Image.fromarray(black_on_nothing).save(buffer, format="PNG")
    return {"imageDataURL": f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"}


def task_document(url: str, pmap: PanopticMap, names: Mapping[int, str], control: Control, model_version: str) -> dict[str, Any]:
    """A task to import, with the map as a prediction."""
    prediction = {"model_version": model_version, "result": map_regions(pmap, names, control)}
    return {"data": {"image": url}, "predictions": [prediction]}


def label_config(names: Iterable[str], control: Control) -> str:
    """The labelling interface for which `task_document` is."""
    tag = {"brush": "BrushLabels", "bitmask": "BitmaskLabels", "polygon": "PolygonLabels"}[control.kind]
    view = ET.Element("View")
    picture = ET.SubElement(view, "Image", name=control.to_name, value="$image", zoom="true")
    if control.kind == "bitmask":
        picture.set("smoothing", "false")  # Label Studio wants it for this tag
    labels = ET.SubElement(view, tag, name=control.from_name, toName=control.to_name)
    for name in names:
        ET.SubElement(labels, "Label", value=name)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"
