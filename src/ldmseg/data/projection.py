"""Labels of a point cloud seen by a camera: a partial map of its photo (the paper's first use of completion, section 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ldmseg.errors import InputError
from ldmseg.panoptic import MAX_ID, VOID, PanopticMap


def project_points(points: ArrayLike, ids: ArrayLike, camera: ArrayLike, shape: tuple[int, int], *, radius: int = 0) -> PanopticMap:
    """The segment ids of 3-D points, at the pixels where a camera sees them; everything else is void.

    Of several points on a pixel the nearest one counts. A point cloud is thin, so that points behind an object are seen through it: leave
    out what a scanner at another place than the camera saw behind, or use a `radius`.

    Args:
        points: (N, 3) coordinates.
        ids: (N,) the segment of each point, 0 (`VOID`) where it has none.
        camera: (3, 4) from the points' coordinates to pixels, K [R | t], or (3, 3) K alone, where the points are in the camera's
            coordinates (x to the right, y down, z ahead). Pixel centres lie at whole numbers, as OpenCV and KITTI have it.
        shape: (height, width) of the photo in pixels.
        radius: a point covers the square of 2 radius + 1 pixels around its own.

    Raises:
        InputError: an argument has another shape or kind.
    """
    xyz, labels, matrix = np.asarray(points, dtype=np.float64), np.asarray(ids), np.asarray(camera, dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(f"points: expected (N, 3), got {xyz.shape}")
    if labels.shape != xyz.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(f"ids: expected ({len(xyz)},) whole numbers, one a point, got {labels.dtype} of shape {labels.shape}")
    if labels.size and not VOID <= int(labels.min()) <= int(labels.max()) <= MAX_ID:
        raise InputError(f"ids: expected 0 to {MAX_ID}, got {int(labels.min())} to {int(labels.max())}")
    if matrix.shape not in ((3, 3), (3, 4)) or not np.isfinite(matrix).all():
        raise InputError(f"camera: expected finite numbers, (3, 4) or (3, 3), got shape {matrix.shape}")
    height, width = shape
    if height < 1 or width < 1 or radius < 0:
        raise InputError(f"shape, radius: expected at least 1 and 0, got {tuple(shape)} and {radius}")

    seen = xyz @ matrix[:, :3].T + (matrix[:, 3] if matrix.shape[1] == 4 else 0)  # (N, 3)
    ahead = np.isfinite(seen).all(axis=1) & (seen[:, 2] > 0) & (labels != VOID)
    depth, labels = seen[ahead, 2], labels[ahead]
    position = np.rint(seen[ahead, :2] / depth[:, None])  # (M, 2) x, y
    inside = (np.abs(position) < 2**31).all(axis=1)
    column, row = position[inside].astype(np.int64).T
    farthest_first = np.argsort(-depth[inside], kind="stable")  # what is written last stays
    column, row, labels = column[farthest_first], row[farthest_first], labels[inside][farthest_first]

    picture = np.full((height, width), VOID, dtype=np.int64)
    offsets = np.array([(down, right) for down in range(-radius, radius + 1) for right in range(-radius, radius + 1)])
    rows, columns = row[:, None] + offsets[:, 0], column[:, None] + offsets[:, 1]  # (M, (2 radius + 1)^2)
    visible = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    picture[rows[visible], columns[visible]] = np.broadcast_to(labels[:, None], rows.shape)[visible]
    return PanopticMap(picture)
