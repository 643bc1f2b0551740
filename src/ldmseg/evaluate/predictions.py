"""The maps of an evaluation as files: a PNG and a line for each photo as it is done, so that a long evaluation can be interrupted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ldmseg.atomic import atomic_write, write_bytes, writing_errors
from ldmseg.data.datasets import FileDataset, PanopticDataset
from ldmseg.errors import InputError, quoted
from ldmseg.formats.coco_panoptic_writer import CLASS_AGNOSTIC, segment_entries
from ldmseg.formats.id_png import read_id_png, write_id_png
from ldmseg.locking import locked
from ldmseg.panoptic import PanopticMap, Segment

LINES, JSON, PNGS = "predictions.jsonl", "panoptic.json", "panoptic"


class Predictions:
    """A folder of predicted maps; `open_predictions` is the way to one.

    `predictions.jsonl` begins with what the maps depend on. A line follows for each finished photo, after its PNG is on the disk. Of the
    lines only their places are kept in memory.

    Args:
        folder: which this process holds.
        dataset: whose photos are segmented.
        header: what the maps depend on, in plain values.
        class_agnostic: every segment is written as category 1, "segment"; otherwise under its own.

    Raises:
        InputError: the folder holds the maps of another evaluation, or two photos would be written as one PNG.
    """

    def __init__(self, folder: Path, dataset: PanopticDataset, header: Mapping[str, Any], class_agnostic: bool) -> None:
        self.folder, self.dataset, self.class_agnostic = folder, dataset, class_agnostic
        self._png_names = _png_names(dataset)
        self._categories = {category.id for category in dataset.categories}
        self._header = {"format": "ldmseg-predictions", "version": 1, "data_sha256": _names_sha256(dataset), **header}
        self._places: dict[int, int] = {}
        self._file: IO[bytes] | None = None
        if (folder / LINES).exists():
            self._open()
            try:
                self._find_lines()
            except BaseException:
                self.close()
                raise

    def __contains__(self, index: int) -> bool:
        return index in self._places and self.png_path(index).is_file()

    def png_path(self, index: int) -> Path:
        return self.folder / PNGS / self._png_names[index]

    def add(self, index: int, pmap: PanopticMap, seconds: float) -> None:
        """Write the map of a photo, then its line.

        Args:
            seconds: that the segmenter took for it.

        Raises:
            InputError: an id does not fit a PNG, a segment's category is not one of the data set's, or a file cannot be written.
        """
        name, (height, width) = self.dataset.name(index), pmap.shape
        image_id = self.dataset.image_id(index) if isinstance(self.dataset, FileDataset) else index
        entries = segment_entries(pmap, [self._category(segment, name) for segment in pmap.segments], quoted(name))
        write_id_png(self.png_path(index), pmap.ids)
        if self._file is None:
            write_bytes(self.folder / LINES, _text(self._header))
            self._open()
        line = {
            "index": index,
            "seconds": round(seconds, 4),
            "image": {"id": image_id, "file_name": name, "width": width, "height": height},
            "annotation": {"image_id": image_id, "file_name": self._png_names[index], "segments_info": entries},
        }
        self._places[index] = self._append(line)

    def read(self, index: int) -> tuple[PanopticMap, float]:
        """The map of a finished photo, and the segmenter's seconds.

        Raises:
            InputError: its PNG is damaged, or is not that of its line.
        """
        line = self._line(index)
        infos = line["annotation"]["segments_info"]
        segments = tuple(Segment(s["id"], s["category_id"], iscrowd=bool(s["iscrowd"]), score=s.get("score")) for s in infos)
        return PanopticMap(read_id_png(self.png_path(index), "prediction"), segments), line["seconds"]

    def write_json(self, count: int, info: Mapping[str, Any]) -> Path:
        """Write `panoptic.json`, COCO's panoptic format, of the first `count` photos, line by line.

        Args:
            info: the JSON's `info`.

        Raises:
            InputError: it cannot be written.
        """
        categories = (CLASS_AGNOSTIC,) if self.class_agnostic else self.dataset.categories
        beginning = {"info": dict(info), "categories": [category.to_dict() for category in categories]}
        path = self.folder / JSON
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(beginning, ensure_ascii=False)[:-1])
            for key, part in (("images", "image"), ("annotations", "annotation")):
                file.write(f', "{key}": [')
                for index in range(count):
                    file.write(("," if index else "") + "\n" + json.dumps(self._line(index)[part], ensure_ascii=False))
                file.write("\n]")
            file.write("}\n")
        return path

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _category(self, segment: Segment, name: str) -> int:
        if self.class_agnostic:
            return CLASS_AGNOSTIC.id
        if segment.category_id is None or segment.category_id not in self._categories:
            raise InputError(f"{quoted(name)}: expected segments of the data set's categories, got category {segment.category_id}")
        return segment.category_id

    # ------------------------------------------------------------------------------------------------------------------- lines
    def _open(self) -> None:
        with writing_errors(self.folder / LINES):
            self._file = (self.folder / LINES).open("r+b")

    def _find_lines(self) -> None:
        """The places of the lines that are there; what a crash left of the last one is cut off."""
        assert self._file is not None
        whole = 0
        for number, text in enumerate(self._file):
            line = _parsed(text)
            if number == 0:
                self._check(line or {})
            elif line is None:
                break
            else:
                self._places[line["index"]] = whole
            whole += len(text)
        if whole == 0:
            self._check({})
        self._file.truncate(whole)

    def _check(self, found: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(self._header))
        differing = next((key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)), None)
        if differing is not None:
            there, here = (quoted(str(values.get(differing))) for values in (found, wanted))
            got = f"another's ({differing} is {there} there and {here} here); choose another folder"
            raise InputError(f"output: expected the folder of this evaluation in '{self.folder}', got {got}")

    def _append(self, line: Mapping[str, Any]) -> int:
        assert self._file is not None
        with writing_errors(self.folder / LINES):
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(_text(line))
            self._file.flush()
        return place

    def _line(self, index: int) -> dict[str, Any]:
        assert self._file is not None
        self._file.seek(self._places[index])
        return json.loads(self._file.readline())


@contextmanager
def open_predictions(
    folder: Path, dataset: PanopticDataset, header: Mapping[str, Any], *, class_agnostic: bool = True
) -> Iterator[Predictions]:
    """Hold a folder of predictions, new or begun before, while the block runs; the arguments and errors are those of `Predictions`.

    Raises:
        InputError: also when another process writes into the folder.
    """
    with locked(folder):
        predictions = Predictions(folder, dataset, header, class_agnostic)
        try:
            yield predictions
        finally:
            predictions.close()


def _text(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _parsed(text: bytes) -> dict[str, Any] | None:
    if not text.endswith(b"\n"):
        return None
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _png_names(dataset: PanopticDataset) -> list[str]:
    """A PNG's name for each photo: the photo's own with the suffix `.png`."""
    found: dict[str, str] = {}
    for index in range(len(dataset)):
        name = dataset.name(index)
        png = str(PurePosixPath(name.replace(os.sep, "/")).with_suffix(".png"))
        if png in found:
            raise InputError(f"output: expected photos of different names, got {quoted(found[png])} and {quoted(name)}, both '{png}'")
        found[png] = name
    return list(found)


def _names_sha256(dataset: PanopticDataset) -> str:
    digest = hashlib.sha256()
    for index in range(len(dataset)):
        digest.update(f"{dataset.name(index)}\n".encode())
    return digest.hexdigest()
