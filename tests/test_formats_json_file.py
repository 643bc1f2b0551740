from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_set import make_coco_set
from command import files_in, refused, run

from ldmseg.data.check import check_dataset
from ldmseg.errors import InputError
from ldmseg.formats.captions import read_captions
from ldmseg.formats.coco_json import read_coco_json
from ldmseg.formats.json_file import read_json

BAD = {
    "deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "nan": '{"info": {"year": NaN}}',
    "infinity": "[-Infinity]",
    "too large": "[1e999]",
    "many digits": "[" + "1" * 5000 + "]",
    "lone surrogate": r'{"a": ["\ud800"]}',
    "lone surrogate as a key": r'{"\udfff": 1}',
    "nul": r'["a\u0000b"]',
    "no UTF-8": b"\xff\xff",
    "no JSON": "{",
    "empty": "",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused_in_one_short_line(name: str, tmp_path: Path) -> None:
    path, content = tmp_path / "a.json", BAD[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (read_json, read_coco_json, lambda p: read_captions([p])):
        with pytest.raises(InputError, match=r"^(json|captions): .*a\.json") as caught:
            read(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


def test_what_is_good_comes_back(tmp_path: Path) -> None:
    for value in ({"a": [1, 2.5, None, "\U0001f600", "\\u0000"]}, [10**18, -1e-300], "text"):
        (tmp_path / "a.json").write_text(json.dumps(value))
        assert read_json(tmp_path / "a.json") == value
        (tmp_path / "a.json").write_text("\ufeff" + json.dumps(value), encoding="utf-8")
        assert read_json(tmp_path / "a.json") == value


def first(key: str, **values: Any) -> Callable[[Any], Any]:
    return lambda document: document[key][0].update(values)


def segment(**values: Any) -> Callable[[Any], Any]:
    return lambda document: document["annotations"][0]["segments_info"][0].update(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(info={"year": float("nan")}),
        first("images", license=float("inf")),
        segment(score=float("nan")),
        segment(score=10**400),
        segment(score=-(10**30)),
        segment(id=10**400),
        segment(category_id=2**63),
        first("categories", name="\ud800"),
        first("categories", name="a\0b"),
        first("categories", id=10**400),
        first("images", file_name="\udcff.png"),
        first("images", file_name="a\0.png"),
        first("images", width=10**400),
        first("images", id="x" * 10**6),
        first("annotations", image_id="x" * 10**6),
        first("annotations", image_id=10**400),
        first("annotations", file_name="y" * 10**6),
        first("annotations", file_name="\ud800.png"),
    ],
)
def test_a_data_set_with_values_that_nothing_can_hold(
    change: Callable[[Any], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ended in a traceback, of `data convert` at the latest."""
    spec = make_coco_set(tmp_path / "data", count=2)
    (path,) = (tmp_path / "data").rglob("*.json")
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    told = refused(capsys, "data", "convert", "--data", spec, "--to", "coco-panoptic", "-o", tmp_path / "out")
    assert len(told) < 1000 and not (tmp_path / "out").exists()
    for verb in (["check", "--data", spec], ["convert", "--data", spec, "--to", "labels", "-o", tmp_path / "labels"]):
        assert run(capsys, "data", *verb).code in (1, 2)
    assert all(len(finding.message) <= 300 for finding in check_dataset(spec).findings)
    assert not (tmp_path / "labels").exists() or files_in(tmp_path / "labels") == set()
