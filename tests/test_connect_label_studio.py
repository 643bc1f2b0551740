from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ldmseg.connect.label_studio import LabelStudioBackend, read_interface, read_prompts
from ldmseg.connect.photo_source import PhotoSource
from ldmseg.errors import InputError
from ldmseg.formats.brush_rle import encode_brush
from ldmseg.formats.coco_json import Category
from ldmseg.formats.tools.label_studio_regions import region_patch
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters.baselines import BaselineSegmenter

HEIGHT, WIDTH = 24, 40
CONFIG = """
<View><Image name="image" value="$photo" zoom="true"/>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="A"/></KeyPointLabels>
  <RectangleLabels name="rect" toName="image" smart="true"><Label value="A"/></RectangleLabels>
  <BrushLabels name="tag" toName="image"><Label value="A"/><Label value="B"/></BrushLabels></View>
"""
CATEGORIES = (Category(1, "A"), Category(2, "B"))


def photo_url() -> str:
    buffer = BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Halves:
    """Without a partial map two halves, with one the nearest given segment."""

    def __init__(self) -> None:
        self.partials: list[PanopticMap] = []

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        partials: Sequence[PanopticMap] | None,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> list[PanopticMap]:
        if partials is not None:
            self.partials += partials
            return BaselineSegmenter("nearest")(images, partials, seeds)
        ids = np.ones(images[0].shape[:2], dtype=int)
        ids[:, WIDTH // 4 :] = 2
        return [PanopticMap(ids)]


def region(kind: str, value: dict[str, Any], identity: str = "r1", **further: Any) -> dict[str, Any]:
    """As Label Studio 1.23 sends it."""
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {**size, "value": value, "id": identity, "from_name": "tag", "to_name": "image", "type": kind, "origin": "manual", **further}


def keypoint(x: float, y: float, label: str = "A", identity: str = "k", **further: Any) -> dict[str, Any]:
    return region("keypointlabels", {"x": x, "y": y, "width": 0.23, "labels": [label], "keypointlabels": [label]}, identity, **further)


def request(context: list[dict[str, Any]] | None = None, **task: Any) -> dict[str, Any]:
    params = {"login": None, "password": None, "context": None if context is None else {"result": context}}
    return {"tasks": [{"id": 1, "data": {"photo": photo_url()}, **task}], "project": "1.17", "label_config": CONFIG, "params": params}


def backend(most: int = 32) -> tuple[LabelStudioBackend, Halves]:
    segmenter = Halves()
    return LabelStudioBackend(segmenter, PhotoSource(), most), segmenter


def masks(answer: dict[str, Any]) -> list[NDArray[np.bool_]]:
    return [region_patch(r, HEIGHT, WIDTH, "answer").full(HEIGHT, WIDTH) for r in answer["results"][0]["result"]]


def test_whole_tasks_are_prelabelled_the_largest_first() -> None:
    server, _ = backend()
    answer = server.predict(request())
    large, small = answer["results"][0]["result"]
    assert (large["from_name"], large["to_name"], large["type"]) == ("tag", "image", "brushlabels")
    assert large["value"]["brushlabels"] == small["value"]["brushlabels"] == ["A"]
    assert [mask.sum() for mask in masks(answer)] == [HEIGHT * 30, HEIGHT * 10]
    assert len(backend(1)[0].predict(request())["results"][0]["result"]) == 1


def test_strokes_of_a_draft_are_completed_when_a_key_point_is_set() -> None:
    """The draft's region has strokes in place of run lengths; what the model proposed before is no pin."""
    stroke = {"type": "add", "relativePoints": [90, 10, 90, 90], "relativeStrokeWidth": 5, "points": [1, 2], "strokeWidth": 3}
    draft = region("brushlabels", {"touches": [stroke], "brushlabels": ["B"]}, "s")
    proposal = region("brushlabels", {"format": "rle", "rle": encode_brush(np.ones((HEIGHT, WIDTH), bool)), "brushlabels": ["A"]}, "p")
    server, segmenter = backend()
    answer = server.predict(request([keypoint(10, 50)], drafts=[{"result": [draft, proposal | {"origin": "prediction"}]}]))
    (partial,) = segmenter.partials
    assert [s.category_id for s in partial.segments] == [2, 1] and (partial.ids == 0).mean() > 0.8
    found = {r["value"]["brushlabels"][0]: mask for r, mask in zip(answer["results"][0]["result"], masks(answer), strict=True)}
    assert found["A"][12, 4] and found["B"][12, 36] and (found["A"] ^ found["B"]).all()


def test_saved_annotations_count_where_there_is_no_draft() -> None:
    saved = region("brushlabels", {"format": "rle", "rle": encode_brush(np.eye(HEIGHT, WIDTH, dtype=bool)), "brushlabels": ["B"]}, "s")
    server, segmenter = backend()
    server.predict(request([keypoint(90, 10)], drafts=[], annotations=[{"result": []}, {"result": [saved]}]))
    assert [s.category_id for s in segmenter.partials[0].segments] == [2, 1]


def test_key_points_of_a_label_are_one_object_and_negative_ones_are_not_shown() -> None:
    context = [keypoint(10, 50, identity="a"), keypoint(30, 50, identity="b"), keypoint(90, 50, identity="c", is_positive=False)]
    given = read_prompts(context, (HEIGHT, WIDTH), CATEGORIES)
    assert len(given.partial) == 2 and given.partial.ids[12, 4] == given.partial.ids[12, 12] == 1 and given.partial.ids[12, 36] == 2
    assert given.shown == {1}
    server, _ = backend()
    (mask,) = masks(server.predict(request(context)))
    assert mask[12, 4] and not mask[12, 36]


def test_an_object_does_not_leave_its_rectangle() -> None:
    box = region("rectanglelabels", {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["B"]})
    given = read_prompts([box], (HEIGHT, WIDTH), CATEGORIES)
    kernel = given.partial.ids > 0
    assert kernel[12, 20] and not kernel[6:8].any() and kernel.sum() < 60
    server, _ = backend()
    (mask,) = masks(server.predict(request([box])))
    assert mask[6:18, 10:30].all() and mask.sum() == 12 * 20


def test_a_label_that_stands_beside_the_geometry() -> None:
    value = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}
    results = [region("rectangle", value), region("labels", value | {"labels": ["B"]}), {"type": "choices", "value": {}}]
    given = read_prompts(results, (HEIGHT, WIDTH), CATEGORIES)
    assert [s.category_id for s in given.partial.segments] == [2]


def test_nothing_given_is_a_partial_map_too() -> None:
    assert len(read_prompts([{"type": "choices"}, 3, None], (HEIGHT, WIDTH), CATEGORIES).partial) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 3}, "request: expected an object with tasks"),
        ({"label_config": "<View/>"}, "label_config: expected an <Image> and one of BrushLabels, BitmaskLabels, PolygonLabels"),
        ({"label_config": "<View"}, "label_config: expected the XML"),
        ({"label_config": None}, "label_config: expected the XML"),
        ({"label_config": '<!DOCTYPE a [<!ENTITY x "y">]><View/>'}, "label_config: expected the XML"),
        ({"tasks": [{"data": {}}]}, r"expected the photo's address under data\.photo of a task"),
        ({"tasks": [3]}, r"expected the photo's address under data\.photo of a task"),
        ({"params": {"context": {"result": [keypoint(10, 10, original_width=9)]}}}, "on the photo's 40 x 24 pixels, got 9 x 24"),
        ({"params": {"context": {"result": [region("brushlabels", {"rle": [1]})]}}}, "rle: expected the bytes"),
    ],
)
def test_requests_that_are_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        backend()[0].predict(request() | change)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="request: expected an object"):
        backend()[0].predict([])


def test_a_photo_that_cannot_be_read_has_an_empty_answer_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    both = request()
    both["tasks"].insert(0, {"data": {"photo": "https://elsewhere/a.png"}})
    with caplog.at_level(logging.WARNING):
        answer = backend()[0].predict(both)
    assert [len(one["result"]) for one in answer["results"]] == [0, 2]
    assert "expected --url, the address of Label Studio" in caplog.text


def test_other_outputs_and_aliases() -> None:
    config = '<View><Image name="i" value="$x"/><PolygonLabels name="p" toName="i"><Label value="A" alias="a"/></PolygonLabels></View>'
    interface = read_interface(config)
    assert interface.control.kind == "polygon" and interface.labels == ("a",) and interface.value == "x"
