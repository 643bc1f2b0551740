"""Opening a data set by its name, `FORMAT:ROOT[:SPLIT]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ldmseg.config import MixedSet
from ldmseg.data.datasets.base import PanopticDataset
from ldmseg.data.datasets.files import AnnotatorDataset, CityscapesDataset, CocoPanopticDataset, LabelFolderDataset, ToolDataset
from ldmseg.data.datasets.parts import MixedPart, Mixture, labelling_of
from ldmseg.data.datasets.scenes import SceneDataset
from ldmseg.data.scenes import VALIDATION_SEED
from ldmseg.errors import InputError, quoted
from ldmseg.formats.ade20k import locate_ade20k
from ldmseg.formats.cityscapes import CityscapesFiles, locate_cityscapes
from ldmseg.formats.coco_layout import CocoFiles, choose_split, list_splits, locate_coco, root_folder
from ldmseg.formats.coco_panoptic import CocoPanoptic
from ldmseg.formats.label_folder import LabelFolder, open_label_folder
from ldmseg.formats.tools.base import ToolFiles
from ldmseg.formats.tools.registry import TOOLS

FORMATS = ("scenes", "coco-panoptic", "cityscapes", "ade20k", "labels", "bsds500", *TOOLS)

Files = CocoFiles | CityscapesFiles | LabelFolder | ToolFiles
"""Where a data set's files lie: found without opening any picture or annotation."""


@dataclass(frozen=True)
class DataSpec:
    """`FORMAT:ROOT[:SPLIT][[FIRST:END]]` taken apart; `root` is a folder, a JSON or, for scenes, how many.

    `items` is the part of the data set that is meant, by number in the data set's order.
    """

    kind: str
    root: Path
    split: str | None
    items: slice | None = None


def parse_spec(spec: str) -> DataSpec:
    """Take a data set's name apart. A colon in a path that exists is part of the path.

    Raises:
        InputError: it is none, or of an unknown format.
    """
    kind, separator, rest = spec.partition(":")
    if not separator or not rest or kind not in FORMATS:
        raise InputError(f"data: expected FORMAT:ROOT[:SPLIT] with FORMAT one of {', '.join(FORMATS)}, got {quoted(spec)}")
    part = re.fullmatch(r"(.+)\[(\d*):(\d*)\]", rest)
    if part and kind != "scenes" and not Path(rest).exists():
        whole = parse_spec(f"{kind}:{part[1]}")
        return replace(whole, items=slice(int(part[2] or 0), int(part[3]) if part[3] else None))
    if kind != "scenes" and (Path(rest).exists() or ":" not in rest):
        return DataSpec(kind, Path(rest), None)
    root, _, split = rest.rpartition(":") if ":" in rest else (rest, "", "")
    return DataSpec(kind, Path(root), split or None)


def load_dataset(spec: str, *, size: int = 128, segments: tuple[int, int] = (4, 12)) -> PanopticDataset:
    """Open a data set by name.

    Args:
        spec: `scenes:COUNT[:train|val]` (or FIRST-END in place of COUNT), or a format, a folder and perhaps a split:
            `coco-panoptic:DIR:val2017`, `cityscapes:DIR:val`, `ade20k:DIR:train`, `labels:DIR`, `bsds500:DIR:val`, or one of
            an annotation tool (`ldmseg.formats.tools`); of files, `[FIRST:END]` behind it names a part, as in Python:
            `coco-panoptic:DIR:train[0:70]`.
        size: pixels of generated scenes; real photos keep their own size.
        segments: fewest and most segments of a generated scene.

    Raises:
        InputError: an unknown format, a missing folder, or a broken annotation file, in one line. A missing or damaged photo or map is an
            error when it is read.
    """
    parsed = parse_spec(spec)
    if parsed.kind == "scenes":
        return _scenes(parsed, spec, size, segments)
    whole = _files(parsed)
    return whole if parsed.items is None else _part(whole, parsed.items, spec)


def load_mixture(sets: str | Sequence[MixedSet], *, size: int = 128, segments: tuple[int, int] = (4, 12)) -> Mixture:
    """Open what `data.train` names: one data set, or several with weights; arguments and errors as of `load_dataset`."""
    named = [MixedSet(data=sets)] if isinstance(sets, str) else sets
    parts = []
    for one in named:
        data = load_dataset(one.data, size=size, segments=segments)
        parts.append(MixedPart(one.data, data, one.weight, labelling_of(data, one.labelling), one.whole_rate))
    return Mixture(parts)


OfFiles = LabelFolderDataset | CityscapesDataset | AnnotatorDataset | CocoPanopticDataset | ToolDataset


def _files(parsed: DataSpec) -> OfFiles:
    files = locate(parsed)
    if isinstance(files, ToolFiles):
        return ToolDataset(records=files.records, categories=files.categories)
    if isinstance(files, LabelFolder):
        return LabelFolderDataset(files.records())
    if isinstance(files, CityscapesFiles):
        return CityscapesDataset(files.records)
    source = CocoPanoptic.at(files)
    return AnnotatorDataset.of(source) if parsed.kind == "bsds500" else CocoPanopticDataset(source)


def _part(whole: OfFiles, items: slice, spec: str) -> PanopticDataset:
    if not range(len(whole))[items]:
        raise InputError(f"data: expected a part of the {len(whole)} items, got {quoted(spec)}")
    if isinstance(whole, CocoPanopticDataset):
        return replace(whole, records=replace(whole.records, records=whole.records.records[items]))
    return replace(whole, records=whole.records[items])  # type: ignore[arg-type]  # each kind gets records of its own kind


def locate(spec: DataSpec) -> Files:
    """Where the files of a data set (not of scenes) lie.

    Raises:
        InputError: there is no such folder or split.
    """
    if spec.kind in TOOLS:
        return TOOLS[spec.kind](spec.root, spec.split)
    if spec.kind == "labels":
        return open_label_folder(spec.root, spec.split)
    if spec.kind == "cityscapes":
        return locate_cityscapes(spec.root, spec.split)
    if spec.kind == "ade20k":
        return locate_ade20k(spec.root, spec.split)
    return _locate_annotators(spec) if spec.kind == "bsds500" else locate_coco(spec.root, spec.split)


def _locate_annotators(spec: DataSpec) -> CocoFiles:
    """`panoptic_<split>_all.json` if there is one, else the split itself; `<split>_all` can be named too."""
    if spec.root.is_file():
        return locate_coco(spec.root, spec.split)
    found = list_splits(root_folder(spec.root))
    everybody = {name.removesuffix("_all"): path for name, path in found.items() if name.endswith("_all")}
    usable = found | everybody if spec.split is not None else everybody
    if not usable:
        return locate_coco(spec.root, spec.split)
    return CocoFiles(usable[choose_split(spec.root, usable, spec.split)])


def _scenes(parsed: DataSpec, spec: str, size: int, segments: tuple[int, int]) -> SceneDataset:
    wanted, split = re.fullmatch(r"(?:(\d+)-)?(\d+)", str(parsed.root)), parsed.split
    first, end = (int(wanted[1] or 0), int(wanted[2])) if wanted else (0, 0)
    if first >= end or split not in (None, "train", "val"):
        raise InputError(f"data: expected scenes:COUNT[:train|val] with COUNT at least 1, or FIRST-END in its place, got {quoted(spec)}")
    if split != "val" and end > VALIDATION_SEED:
        raise InputError(f"data: expected at most {VALIDATION_SEED} training scenes (later seeds are for validation), got {end}")
    return SceneDataset(end - first, first + (VALIDATION_SEED if split == "val" else 0), size, segments)
