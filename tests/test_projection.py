"""Points with labels, seen by a camera."""

from __future__ import annotations

import numpy as np
import pytest

from ldmseg.data.projection import project_points
from ldmseg.errors import InputError

K = np.array([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]])
SHAPE = (7, 9)


def test_points_land_where_the_camera_sees_them() -> None:
    points = np.array([[0, 0, 1], [0.4, 0, 1], [0, -0.6, 2], [0, 0, -1], [9, 0, 1], [0.2, 0.3, 1]])
    pmap = project_points(points, [5, 6, 7, 8, 9, 0], K, SHAPE)
    expected = np.zeros(SHAPE, int)
    expected[3, 4], expected[3, 8], expected[0, 4] = 5, 6, 7  # behind, beside and without a label: not seen
    assert np.array_equal(pmap.ids, expected)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearest_point_counts(order: list[int]) -> None:
    points, ids = np.array([[0, 0, 1.0], [0, 0, 2.0]]), np.array([5, 6])
    assert project_points(points[order], ids[order], K, SHAPE).ids[3, 4] == 5
    wide = project_points(np.array([[0, 0, 1.0], [0.2, 0, 1.5]]), [5, 6], K, SHAPE, radius=1)
    assert wide.ids[2:5, 3:6].tolist() == [[5] * 3] * 3
    assert wide.ids[3].tolist() == [0, 0, 0, 5, 5, 5, 6, 0, 0]


def test_a_moved_camera_is_a_matrix_of_three_by_four() -> None:
    turn = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]])  # a scanner's x ahead, y left, z up -> the camera's axes
    points = np.array([[2.0, -0.4, 0.2]])
    camera = K @ np.column_stack([turn, [0, 0, -1.0]])
    pmap = project_points(points, [7], camera, SHAPE)
    assert np.argwhere(pmap.ids).tolist() == [[1, 8]]
    assert np.array_equal(pmap.ids, project_points(points @ turn.T + [0, 0, -1], [7], K, SHAPE).ids)


def test_no_points_give_a_void_map() -> None:
    assert len(project_points(np.zeros((0, 3)), np.zeros(0, int), K, SHAPE)) == 0
    assert len(project_points([[np.nan, 0, 1], [0, 0, 1e-320]], [1, 2], K, SHAPE)) <= 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"points": np.zeros((4, 2))}, "points"),
        ({"ids": [1, 2]}, "ids"),
        ({"ids": [0.5]}, "ids"),
        ({"ids": [-1]}, "ids"),
        ({"camera": np.eye(4)}, "camera"),
        ({"shape": (0, 4)}, "shape, radius"),
        ({"radius": -1}, "shape, radius"),
    ],
)
def test_a_wrong_argument_is_named(changes: dict, named: str) -> None:
    arguments = {"points": [[0, 0, 1]], "ids": [1], "camera": K, "shape": SHAPE} | changes
    with pytest.raises(InputError, match=f"^{named}: expected"):
        project_points(**arguments)
