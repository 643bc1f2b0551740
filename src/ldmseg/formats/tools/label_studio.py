"""Label Studio: tasks whose annotations are lists of regions, in percent of the photo's size or as masks."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from ldmseg.errors import InputError, quoted, shortened
from ldmseg.formats.brush_rle import encode_brush
from ldmseg.formats.coco_json import Category
from ldmseg.formats.coco_layout import listed, root_folder
from ldmseg.formats.json_file import read_json
from ldmseg.formats.regions import Cutout, cutouts, paint
from ldmseg.formats.tools.base import ToolFiles, ToolRecord, broken_record, find_photo, named_categories, photo_folders, photo_name
from ldmseg.formats.tools.label_studio_regions import read_regions, region_label, task_regions
from ldmseg.panoptic import PanopticMap

MaskKind = Literal["brush", "bitmask", "polygon"]
"""How a segment is written: run lengths of a brush, a picture, or an outline in percent."""

UPLOAD_PREFIX = 9
"""Characters that Label Studio puts before the name of an uploaded file: eight hexadecimal digits and a dash."""


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
