"""Outlines of segments, and segments as annotations of COCO and detections of supervision: what other tools draw and count with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.formats.patches import outlines
from ldmseg.formats.run_lengths import coco_counts, runs_of
from ldmseg.panoptic import PanopticMap


def polygons(pmap: PanopticMap) -> dict[int, tuple[NDArray[np.int64], ...]]:
    """The outlines of each segment, exactly along the borders of its pixels.

    Returns:
        For each id one ring per part of the segment (parts that share a side are one) and per hole in it: (N, 2) corners as x, y in pixels
        from the upper left corner of the picture, without the first one again at the end. The segment lies to the right of the way along
        a ring: parts go clockwise, holes the other way round.
    """
    found = {}
    for segment, (left, top, width, height) in zip(pmap.segments, pmap.boxes.tolist(), strict=True):
        mask = pmap.ids[top : top + height, left : left + width] == segment.id
        found[segment.id] = tuple(ring + np.array([left, top]) for ring in outlines(mask))
    return found


def coco_objects(pmap: PanopticMap, image_id: int | str = 1, compress: bool = False) -> list[dict[str, Any]]:
    """The segments as the `annotations` of COCO's instance files, for tools that read those.

    `segmentation` is exact: run lengths down the columns, as a list, or as COCO's text with `compress`. A segment without a category is of
    category 1.
    """
    found = []
    for segment, area, box in zip(pmap.segments, pmap.areas.tolist(), pmap.boxes.tolist(), strict=True):
        mask = np.asarray(pmap.ids == segment.id)
        entry = {
            "id": segment.id,
            "image_id": image_id,
            "category_id": 1 if segment.category_id is None else segment.category_id,
            "area": area,
            "bbox": box,
            "iscrowd": int(segment.iscrowd),
            "segmentation": {"size": list(pmap.shape), "counts": coco_counts(mask) if compress else runs_of(mask.T.ravel()).tolist()},
        }
        found.append(entry if segment.score is None else entry | {"score": segment.score})
    return found


def detections(pmap: PanopticMap) -> Any:
    """The segments as `supervision.Detections`: boxes, masks, categories and scores, and the ids as `data["segment_id"]`.

    Raises:
        InputError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise InputError("to_detections: expected supervision to be installed (pip install supervision), got none") from error
    boxes = pmap.boxes.reshape(-1, 4)
    ids = np.array([s.id for s in pmap.segments], dtype=np.int64)
    scored = all(s.score is not None for s in pmap.segments) and len(pmap) > 0
    return supervision.Detections(
        xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float64),
        mask=pmap.ids[None] == ids[:, None, None],
        class_id=np.array([0 if s.category_id is None else s.category_id for s in pmap.segments], dtype=np.int64),
        confidence=np.array([s.score for s in pmap.segments], dtype=np.float64) if scored else None,
        data={"segment_id": ids},
    )
