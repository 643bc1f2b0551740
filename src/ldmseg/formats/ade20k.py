"""ADE20K panoptic: COCO panoptic annotations beside `images/training` and `images/validation`, as the usual converters make them."""

from __future__ import annotations

import os
from pathlib import Path

from ldmseg.errors import InputError
from ldmseg.formats.coco_layout import CocoFiles, choose_split, listed, root_folder

PREFIX = "ade20k_panoptic_"

IMAGE_FOLDERS = {"train": "training", "val": "validation"}
"""ADE20K's names of the splits' folders of photos."""


def locate_ade20k(root: str | os.PathLike[str], split: str | None = None) -> CocoFiles:
    """`ade20k_panoptic_<split>.json`, the folder of that name, and `images/<split>/`, where `train` may be `training`, `val` `validation`.

    The converters draw things over stuff after they listed it, so a segment without a pixel is no error here.

    Raises:
        InputError: there is no such split, or several and none was named (they are listed).
    """
    folder = root_folder(Path(root))
    found = {path.stem.removeprefix(PREFIX): path for path in listed(folder, f"{PREFIX}*.json")}
    if not found:
        raise InputError(f"root: found no '{PREFIX}<split>.json' in '{folder}'")
    short = {long: name for name, long in IMAGE_FOLDERS.items()}
    name = choose_split(folder, found, short.get(split, split) if split is not None and split not in found else split)
    photos = [folder / "images" / inside for inside in (IMAGE_FOLDERS.get(name, name), name)]
    return CocoFiles(found[name], found[name].with_suffix(""), next((p for p in photos if p.is_dir()), None), empty_segments=True)
