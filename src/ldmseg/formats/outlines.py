"""Outlines of segments, and segments as annotations of COCO and detections of supervision: what other tools draw and count with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.panoptic import PanopticMap

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""(x, y) of the four directions, each a right turn from the one before."""


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
        found[segment.id] = tuple(ring + np.array([left, top]) for ring in _rings(mask))
    return found


def _rings(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The rings of a mask, in its own coordinates: sides of pixels are joined end to end."""
    inside = np.pad(mask, 1)
    sides: dict[tuple[int, int], list[int]] = {}  # corner -> the directions of the sides that start there
    above, below, before, after = inside[:-1, 1:-1], inside[1:, 1:-1], inside[1:-1, :-1], inside[1:-1, 1:]
    for direction, (edge, shift) in enumerate(
        ((below & ~above, (0, 0)), (before & ~after, (0, 0)), (above & ~below, (1, 0)), (after & ~before, (0, 1)))
    ):
        for y, x in np.argwhere(edge).tolist():
            sides.setdefault((x + shift[0], y + shift[1]), []).append(direction)
    rings = []
    while sides:
        start, first = next((corner, directions[0]) for corner, directions in sides.items())
        corner, direction, ring = start, first, [(start, first)]
        _take(sides, start, first)
        while True:
            corner = (corner[0] + _STEPS[direction][0], corner[1] + _STEPS[direction][1])
            leaving = [*sides.get(corner, ()), *([first] if corner == start else ())]
            direction = next(turn for turn in ((direction + 1) % 4, direction, (direction - 1) % 4) if turn in leaving)
            if (corner, direction) == (start, first):
                break
            _take(sides, corner, direction)
            ring.append((corner, direction))
        turns = [corner for (corner, way), (_, last) in zip(ring, [ring[-1], *ring[:-1]], strict=True) if way != last]
        rings.append(np.array(turns, dtype=np.int64))
    return rings


def _take(sides: dict[tuple[int, int], list[int]], corner: tuple[int, int], direction: int) -> None:
    sides[corner].remove(direction)
    if not sides[corner]:
        del sides[corner]


def coco_objects(pmap: PanopticMap, image_id: int | str = 1) -> list[dict[str, Any]]:
    """The segments as the `annotations` of COCO's instance files, for tools that read those.

    `segmentation` is exact: uncompressed run lengths, down the columns. A segment without a category is of category 1.
    """
    found = []
    for segment, area, box in zip(pmap.segments, pmap.areas.tolist(), pmap.boxes.tolist(), strict=True):
        down = np.pad(np.asarray(segment.id == pmap.ids.T).ravel(), 1)
        changes = np.flatnonzero(down[1:] != down[:-1])
        counts = np.diff(changes, prepend=0, append=pmap.ids.size)
        entry = {
            "id": segment.id,
            "image_id": image_id,
            "category_id": 1 if segment.category_id is None else segment.category_id,
            "area": area,
            "bbox": box,
            "iscrowd": int(segment.iscrowd),
            "segmentation": {"size": list(pmap.shape), "counts": counts.tolist() if counts[-1] else counts[:-1].tolist()},
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
