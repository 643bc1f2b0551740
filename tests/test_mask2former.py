"""Published set-prediction networks as segmenters: loaded strictly, photos prepared as transformers does it, categories by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from query_folder import PROCESSORS, query_folder

from ldmseg.errors import InputError
from ldmseg.evaluate import evaluate
from ldmseg.formats.coco_json import Category
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters import QuerySegmenter, QueryThresholds, load_segmenter
from ldmseg.segmenters.mask2former import Preparation, match_categories, stuff_classes

pytest.importorskip("transformers", reason="transformers is not installed (the extra `segmenters`)")

LABELS = {0: "cat", 1: "sky", 2: "dog"}
CATEGORIES = (Category(7, "dog", isthing=True), Category(3, "cat", isthing=True), Category(9, "sky", isthing=False))
PHOTOS = [np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8) for i, shape in enumerate([(30, 50, 3), (64, 41, 3)])]
ALL = QueryThresholds(score=0.0, overlap=0.0)  # random weights are sure of nothing


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind in PROCESSORS:
        found[kind] = tmp_path_factory.mktemp(kind)
        query_folder(found[kind], kind, LABELS)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(PROCESSORS))
def test_a_saved_network_segments_photos_of_any_size(folders: dict[str, Path], kind: str) -> None:
    segment = QuerySegmenter.from_pretrained(kind, str(folders[kind]), categories=CATEGORIES, thresholds=ALL)  # type: ignore[arg-type]
    maps = segment(PHOTOS, None, [0, 1])
    assert [m.shape for m in maps] == [(30, 50), (64, 41)]
    assert any(len(m) for m in maps)
    assert all(s.category_id in {7, 3, 9} and s.isthing == (s.category_id != 9) for m in maps for s in m.segments)
    assert segment(PHOTOS[1:], None, [5])[0] == maps[1]
    assert segment.settings == {"segmenter": f"{kind}:{folders[kind]}", "score": 0.0, "overlap": 0.0, "gap_free": False}
    with pytest.raises(InputError, match="completes no map"):
        segment(PHOTOS, [PanopticMap(np.ones(p.shape[:2], dtype=int)) for p in PHOTOS], [0, 1])


@pytest.mark.parametrize("kind", list(PROCESSORS))
@pytest.mark.parametrize("shape", [(30, 50), (64, 41), (40, 40), (17, 200)])
def test_photos_are_prepared_as_transformers_does_it(kind: str, shape: tuple[int, int]) -> None:
    name = {"mask2former": "Mask2FormerImageProcessorPil", "eomt": "EomtImageProcessorPil"}[kind]
    module = pytest.importorskip(f"transformers.models.{kind}.image_processing_pil_{kind}", reason="an older transformers")
    settings = {key: value for key, value in PROCESSORS[kind].items() if key != "image_processor_type"}
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = getattr(module, name)(**settings)(photo, return_tensors="pt")["pixel_values"]
    pixels, (height, width) = Preparation.of(PROCESSORS[kind], "here").pixels(photo)
    assert pixels.shape == theirs.shape and height <= pixels.shape[-2] and width <= pixels.shape[-1]
    assert torch.allclose(pixels, theirs, atol=1e-5)


@pytest.mark.slow
def test_weights_are_loaded_strictly(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = folders["eomt"]
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    state = load_file(source / "model.safetensors")
    key = "class_predictor.weight"
    for wrong, expected in (
        ({k: v for k, v in state.items() if k != key}, rf"got 1 missing: {key}"),
        ({**state, "neck.weight": torch.zeros(1)}, "got 1 unexpected: neck.weight"),
        ({**state, key: torch.zeros(9, 16)}, "segmenter: expected"),
    ):
        save_file(wrong, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match=expected):
            QuerySegmenter.from_pretrained("eomt", str(tmp_path))
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = QuerySegmenter.from_pretrained("eomt", str(tmp_path)).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.slow
def test_what_is_no_such_checkpoint_is_said(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a model of type mask2former in .*, got eomt"):
        QuerySegmenter.from_pretrained("mask2former", str(folders["eomt"]))
    with pytest.raises(InputError, match=r"config\.json"):
        QuerySegmenter.from_pretrained("eomt", str(tmp_path))
    query_folder(tmp_path, "eomt", LABELS)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"expected a preprocessor_config.json"):
        QuerySegmenter.from_pretrained("eomt", str(tmp_path))
    for change, expected in (({"do_split_image": True}, "expected a panoptic checkpoint"), ({"size": {}}, "shortest_edge")):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS["eomt"] | change), encoding="utf-8")
        with pytest.raises(InputError, match=expected):
            QuerySegmenter.from_pretrained("eomt", str(tmp_path))
    with pytest.raises(InputError, match=r"segmenter: expected one of mask2former:ID, eomt:ID, felzenszwalb, slic, .*got 'magic:1'"):
        load_segmenter("magic:1")


def test_categories_are_matched_by_name_else_by_order() -> None:
    assert [c.id for c in match_categories(["cat", "sky"], CATEGORIES)] == [3, 9]
    assert [c.id for c in match_categories(["a", "b", "c"], CATEGORIES)] == [7, 3, 9]
    assert match_categories(["a", "cat"], CATEGORIES) == ()
    assert stuff_classes(3, CATEGORIES) == {2}
    assert stuff_classes(133, ()) == set(range(80, 133))
    assert stuff_classes(3, ()) == set()


@pytest.mark.slow
def test_stuff_is_merged_and_classes_can_count(folders: dict[str, Path]) -> None:
    class One:
        categories = CATEGORIES

        def __len__(self) -> int:
            return 1

        def image(self, index: int) -> np.ndarray:
            return PHOTOS[0]

        def map(self, index: int) -> PanopticMap:
            return segment(PHOTOS[:1], None, [0])[0]

        def name(self, index: int) -> str:
            return "photo.png"

    segment = QuerySegmenter.from_pretrained("mask2former", str(folders["mask2former"]), categories=CATEGORIES, thresholds=ALL)
    drawn = segment(PHOTOS[:1], None, [0])[0]
    assert len(drawn) and sum(s.category_id == 9 for s in drawn.segments) <= 1
    assert evaluate(segment, One(), class_agnostic=False).quality.all.pq == 1
