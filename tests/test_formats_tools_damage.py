"""Thousands of damaged files of every tool: read, or refused in one line; never another exception."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import data_trees
import pytest
from masks import CATEGORIES, random_map
from test_data_tools import source

from ldmseg.data.convert import convert_dataset
from ldmseg.data.datasets.loading import DataSpec, locate, parse_spec
from ldmseg.errors import InputError
from ldmseg.formats.tools.base import ToolFiles
from ldmseg.formats.tools.label_studio import Control, MaskKind, task_document

STRANGE: tuple[Any, ...] = (
    *(None, -1, 0, 2**70, -(2**70), 1e300, 0.5, True, "", "x", "../x", "\u0000"),
    *([], {}, [[]], [None], {"a": 1}, "9" * 5000),
)
JSONS = {"labelme": "photos/0.json", "isat": "photos/0.json", "coco-instances": "instances.json", "segments": "release.json"}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


def read_everything(spec: DataSpec) -> None:
    files = locate(spec)
    assert isinstance(files, ToolFiles)
    for record in files.records:
        for read in (record.read_map, lambda record=record: record.image_path):
            try:
                read()
            except InputError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000, error


@pytest.mark.slow
@pytest.mark.parametrize("tool", [*JSONS, "label-studio"])
def test_a_strange_value_anywhere_in_a_json(tmp_path: Path, tool: str) -> None:
    spec, path = tool_set(tmp_path, tool)
    original = json.loads(path.read_text(encoding="utf-8"))
    rng = random.Random(0)
    for _ in range(150):
        document = deepcopy(original)
        container, key = rng.choice(places(document))
        container[key] = rng.choice(STRANGE)
        if rng.random() < 0.2:
            del container[key]
        path.write_text(json.dumps(document), encoding="utf-8")
        try:
            read_everything(spec)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, error


OTHERS = [("cvat", "annotations.xml"), ("yolo-seg", "labels/0.txt"), ("yolo-seg", "data.yaml")]


@pytest.mark.parametrize(("tool", "name"), [*JSONS.items(), *OTHERS])
def test_bytes_that_changed_anywhere(tmp_path: Path, tool: str, name: str) -> None:
    spec, _ = tool_set(tmp_path, tool)
    path = tmp_path / "out" / name
    original = path.read_bytes()
    rng = random.Random(0)
    for _ in range(100):
        data = bytearray(original)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([*b'0123456789"<>,;.:-e[]{}&#!', rng.randrange(256)])
        path.write_bytes(bytes(data))
        try:
            read_everything(spec)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, error


def tool_set(tmp_path: Path, tool: str) -> tuple[DataSpec, Path]:
    """A small data set of a tool, and its JSON."""
    if tool == "label-studio":
        names = {c.id: c.name for c in CATEGORIES}
        kinds: tuple[MaskKind, ...] = ("brush", "bitmask", "polygon")
        written = [task_document("/a.png", random_map(0, 9, 12, 3), names, Control(kind=kind), "") for kind in kinds]
        result = [region for task in written for region in task["predictions"][0]["result"]]
        touches = [{"type": "add", "relativePoints": [1, 2, 30, 40], "relativeStrokeWidth": 3}]
        result += [result[0] | {"value": {"touches": touches}, "id": "t"}, {"type": "choices", "value": {"choices": ["x"]}}]
        tasks = [{"id": 1, "data": {"image": "/data/upload/1a2b3c4d-a.png"}, "annotations": [{"result": result}], "drafts": []}]
        path = data_trees.write(tmp_path / "out" / "export.json", tasks)
        return parse_spec(f"label-studio:{path}"), path
    report = convert_dataset(source(tmp_path / "source", 1), tmp_path / "out", tool)
    return parse_spec(report.data), tmp_path / "out" / JSONS.get(tool, "")
