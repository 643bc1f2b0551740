from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from masks import masks, random_mask
from numpy.typing import NDArray
from oracle import ask

from ldmseg.errors import InputError
from ldmseg.formats.run_lengths import coco_counts, coco_mask, compressed, cvat_mask, cvat_runs, decompressed, from_runs, runs_of

SQUARE = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], dtype=bool)


def test_known_codes() -> None:
    assert runs_of(SQUARE.T.ravel()).tolist() == [4, 2, 1, 2, 3]
    assert coco_counts(SQUARE) == "42102"  # the fourth and fifth as differences 2 - 2 and 3 - 1
    assert coco_mask([4, 2, 1, 2, 3], 3, 4).tolist() == SQUARE.tolist()
    assert cvat_runs(np.ones((3, 4), dtype=bool)) == [0, 12]
    assert cvat_runs(SQUARE) == [5, 2, 2, 2, 1]
    assert runs_of(np.zeros(0, dtype=bool)).tolist() == []


@pytest.mark.slow
@given(masks)
def test_there_and_back(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    assert (coco_mask(coco_counts(mask), height, width) == mask).all()
    assert (coco_mask(runs_of(mask.T.ravel()).tolist(), height, width) == mask).all()
    assert (cvat_mask(cvat_runs(mask), height, width) == mask).all()


def test_large_counts_and_large_steps_between_them() -> None:
    counts = [0, 2**40, 1, 2**50, 3, 1, 2**33, 7]
    assert decompressed(compressed(counts)).tolist() == counts


@pytest.mark.parametrize("counts", [[3], [5, 9], [-1, 13], [1.5, 10.5], [[1], [2, 3]], "x", None, [2**70], [6, 6, 1]])
def test_wrong_counts(counts: object) -> None:
    with pytest.raises(InputError, match=r"counts: expected run lengths"):
        from_runs(counts, 12)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["é", "P", " ", "o" * 14 + "0", "0o"])
def test_wrong_text(text: str) -> None:
    with pytest.raises(InputError, match="expected COCO's compressed run lengths, got '"):
        decompressed(text)


@pytest.mark.slow
def test_pycocotools_agrees() -> None:
    rng = np.random.default_rng(0)
    found = [random_mask(rng) for _ in range(300)]
    code = """
import numpy as np
from pycocotools import mask as coco
answer = []
for pixels, text in given:
    pixels = np.array(pixels, np.uint8)
    theirs = coco.encode(np.asfortranarray(pixels))["counts"].decode()
    same = (coco.decode({"size": list(pixels.shape), "counts": text.encode()}) == pixels).all()
    answer.append([theirs, bool(same)])
"""
    answers = ask("pycocotools", code, [[mask.astype(int).tolist(), coco_counts(mask)] for mask in found])
    assert answers == [[coco_counts(mask), True] for mask in found]


@pytest.mark.slow
def test_the_sdk_of_cvat_agrees() -> None:
    rng = np.random.default_rng(0)
    found = [mask for mask in (random_mask(rng) for _ in range(300)) if mask.any()]
    code = """
import numpy as np
from cvat_sdk.masks import decode_mask, encode_mask
answer = []
for pixels in given:
    pixels = np.array(pixels, bool)
    code = encode_mask(pixels)
    answer.append([int(v) for v in code])
"""
    for mask, theirs in zip(found, ask("cvat_sdk", code, [mask.astype(int).tolist() for mask in found]), strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
        assert theirs == [*cvat_runs(mask[top : bottom + 1, left : right + 1]), left, top, right, bottom]
