"""From queries to a map: known answers, and the figures of transformers' own post-processing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ldmseg.errors import InputError
from ldmseg.segmenters.queries import QueryThresholds, likely_queries, queries_to_map

SURE = 20.0


def classes(*labels: int, count: int = 3) -> torch.Tensor:
    """(Q, count + 1) logits that are sure of these classes; `count` is "no object"."""
    return SURE * torch.nn.functional.one_hot(torch.tensor(labels), count + 1).float()


def masks(*boxes: tuple[int, int], width: int = 8) -> torch.Tensor:
    """(Q, 4, width) logits that are sure of these columns."""
    logits = torch.full((len(boxes), 4, width), -SURE)
    for number, (left, right) in enumerate(boxes):
        logits[number, :, left:right] = SURE
    return logits


def test_each_sure_query_is_a_segment_and_the_rest_is_void() -> None:
    pmap = queries_to_map(classes(0, 3, 1), masks((0, 3), (3, 6), (6, 8)), (4, 8))
    assert pmap.ids[0].tolist() == [1, 1, 1, 0, 0, 0, 2, 2]
    assert [(s.id, s.category_id, s.score) for s in pmap.segments] == [(1, 0, 1.0), (2, 1, 1.0)]


def test_stuff_of_one_class_is_one_segment() -> None:
    logits = masks((0, 3), (3, 6), (6, 8))
    assert queries_to_map(classes(1, 0, 1), logits, (4, 8), stuff={1}).ids[0].tolist() == [1, 1, 1, 2, 2, 2, 1, 1]
    assert queries_to_map(classes(1, 0, 1), logits, (4, 8)).ids[0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3]


def test_a_mask_that_loses_most_of_its_pixels_is_dropped() -> None:
    sure = classes(0, 0)
    sure[1] *= 0.2  # a score of 0.93: it loses to the first where both claim
    logits = masks((0, 6), (0, 8))
    assert queries_to_map(sure, logits, (4, 8)).ids[0].tolist() == [1] * 6 + [0, 0]
    assert queries_to_map(sure, logits, (4, 8), QueryThresholds(overlap=0.2)).ids[0].tolist() == [1] * 6 + [2, 2]
    assert queries_to_map(sure, logits, (4, 8), QueryThresholds(gap_free=True)).ids[0].tolist() == [1] * 8


def test_nothing_likely_is_void_or_the_best_query() -> None:
    unsure = classes(0, 3) * 0.01
    unsure[1] = torch.tensor([0, 0, 0, 1.0])
    assert len(queries_to_map(unsure, masks((0, 3), (3, 8)), (4, 8))) == 0
    filled = queries_to_map(unsure, masks((0, 3), (3, 8)), (4, 8), QueryThresholds(gap_free=True))
    assert (filled.ids == 1).all() and filled.segments[0].category_id == 0
    assert queries_to_map(classes(3), masks((0, 8)), (2, 2)).ids.tolist() == [[0, 0], [0, 0]]
    empty = torch.zeros(0, 4), torch.zeros(0, 4, 8)
    assert len(queries_to_map(*empty, (4, 8), QueryThresholds(gap_free=True))) == 0
    with pytest.raises(InputError, match=r"score: expected 0..1, got 2"):
        QueryThresholds(score=2)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_map_as_transformers(seed: int) -> None:
    """EoMT's post-processing in transformers is that of Mask2Former's authors; Mask2Former's own there weighs masks twice."""
    eomt = pytest.importorskip("transformers.models.eomt.image_processing_pil_eomt", reason="transformers is not installed")
    generator = torch.Generator().manual_seed(seed)
    class_logits = 2 * torch.randn(30, 6, generator=generator)
    coarse = 6 * torch.randn(30, 4, 4, generator=generator)
    mask_logits = torch.nn.functional.interpolate(coarse[None], size=(16, 16), mode="bicubic")[0]
    stuff, thresholds = [1, 2], QueryThresholds(score=0.4, overlap=0.1)
    outputs = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    processor = eomt.EomtImageProcessorPil(size={"shortest_edge": 16, "longest_edge": 16})
    theirs = processor.post_process_panoptic_segmentation(
        outputs, [(23, 23)], threshold=0.4, overlap_mask_area_threshold=0.1, stuff_classes=stuff
    )[0]
    pmap = queries_to_map(class_logits, mask_logits, (23, 23), thresholds, stuff)
    label_of = {info["id"]: info["label_id"] for info in theirs["segments_info"]} | {-1: None}
    expected = [label_of[i] for i in theirs["segmentation"].flatten().tolist()]
    ours = {s.id: s.category_id for s in pmap.segments} | {0: None}
    differing = sum(ours[i] != e for i, e in zip(pmap.ids.ravel().tolist(), expected, strict=True))
    assert differing <= 2  # rounding, where two masks are about as likely
    assert [s.category_id for s in pmap.segments] == [info["label_id"] for info in theirs["segments_info"]]
    assert [s.score for s in pmap.segments] == pytest.approx([info["score"] for info in theirs["segments_info"]], abs=1e-4)
    assert len(pmap) > 1


def test_unlikely_queries_have_no_influence() -> None:
    generator = torch.Generator().manual_seed(0)
    class_logits, mask_logits = 3 * torch.randn(20, 5, generator=generator), 5 * torch.randn(20, 6, 6, generator=generator)
    kept = likely_queries(class_logits)
    assert 0 < len(kept) < 20
    assert queries_to_map(class_logits[kept], mask_logits[kept], (9, 9)) == queries_to_map(class_logits, mask_logits, (9, 9))
