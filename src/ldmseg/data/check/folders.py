"""Checks of data sets without a JSON: Cityscapes' instance ids, folders of label pictures, generated scenes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ldmseg.data.check.findings import Finding, look_at_ids, look_at_photo, size_mismatch, unreadable
from ldmseg.data.datasets import PanopticDataset
from ldmseg.errors import InputError
from ldmseg.formats.cityscapes import CityscapesFiles, CityscapesRecord, from_instance_ids
from ldmseg.formats.label_folder import LabelFolder
from ldmseg.formats.label_png import read_label_ids, read_label_png
from ldmseg.formats.tools.base import ToolFiles, ToolRecord

Look = Callable[[], list[Finding]]


def cityscapes_looks(files: CityscapesFiles) -> list[Look]:
    return [partial(look_at_cityscapes, record) for record in files.records]


def look_at_cityscapes(record: CityscapesRecord) -> list[Finding]:
    """Photo and instance ids of one image."""
    size, findings = look_at_photo(record.image_path)
    path = record.instance_path
    ids, broken = look_at_ids(path, partial(read_label_ids, path))
    if ids is None:
        return findings + broken
    if size is not None:
        findings += size_mismatch(path, ids.shape, "the photo", size)  # type: ignore[arg-type]
    for value in from_instance_ids(ids)[1]:
        findings.append(Finding("unknown-category", str(path), f"value {value} belongs to no label of Cityscapes"))
    return findings


def label_looks(files: LabelFolder) -> tuple[list[Finding], list[Look]]:
    """Findings from the names of the files, and what is still to be opened."""
    findings = []
    if files.image_dir is None:
        findings.append(Finding("missing-file", str(files.mask_dir), "there is no folder of photos beside it"))
    return findings, [partial(look_at_labels, files, stem) for stem in sorted({*files.images, *files.masks})]


def look_at_labels(files: LabelFolder, stem: str) -> list[Finding]:
    """All photos and id pictures of one name; there should be one of each."""
    findings: list[Finding] = []
    photos, masks = files.images.get(stem, ()), files.masks.get(stem, ())
    if not masks:
        findings.append(Finding("no-annotation", str(photos[0]), f"there is no '{stem}.*' in '{files.mask_dir}'"))
    if not photos and files.image_dir is not None:
        findings.append(Finding("missing-file", str(masks[0]), f"there is no photo '{stem}.*' in '{files.image_dir}'"))
    findings += [Finding("two-annotations", str(second), f"'{masks[0].name}' is of the same name") for second in masks[1:]]
    findings += [Finding("duplicate-id", str(second), f"'{photos[0].name}' is of the same name") for second in photos[1:]]
    size = None
    for photo in photos:
        size, broken = look_at_photo(photo)
        findings += broken
    for mask in masks:
        ids, broken = look_at_ids(mask, partial(_read, mask))
        findings += broken
        if ids is not None and size is not None:
            findings += size_mismatch(mask, ids.shape, "the photo", size)  # type: ignore[arg-type]
    return findings


def tool_looks(files: ToolFiles) -> list[Look]:
    return [partial(look_at_tool, record) for record in files.records]


def look_at_tool(record: ToolRecord) -> list[Finding]:
    """Photo and annotation of one record of a tool."""
    size, findings = (None, []) if record.photo is None else look_at_photo(record.photo)
    try:
        pmap = record.read_map()
    except InputError as error:
        if size is None and record.photo is not None and str(record.photo) in str(error):
            return findings  # the format has its size from the photo, which was told
        return [*findings, unreadable(record.source, error)]
    if size is not None:
        findings += size_mismatch(record.source, pmap.shape, f"'{record.photo}'", size)
    return findings


def item_looks(dataset: PanopticDataset) -> list[Look]:
    """For a data set that is not in files."""
    return [partial(look_at_item, dataset, index) for index in range(len(dataset))]


def look_at_item(dataset: PanopticDataset, index: int) -> list[Finding]:
    """Photo and map of one item."""
    try:
        photo, pmap = dataset.image(index), dataset.map(index)
    except InputError as error:
        return [Finding("broken-file", dataset.name(index), str(error))]
    if photo.shape[:2] == pmap.shape:
        return []
    return [Finding("size-mismatch", dataset.name(index), f"expected the photo's size {photo.shape[:2]}, got {pmap.shape}")]


def _read(mask: Path) -> NDArray[np.integer]:
    return read_label_png(mask).ids
