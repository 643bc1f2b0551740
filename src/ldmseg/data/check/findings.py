"""A finding, and the checks of single files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ldmseg.errors import InputError
from ldmseg.formats.image import BROKEN_IMAGE, one_line, open_image, read_image

FindingKind = Literal[
    "broken-json",  # it cannot be read at all, or a part is of another kind than expected
    "duplicate-id",  # of an image, a category, or a segment of an image
    "unknown-category",
    "unknown-image",  # an annotation of an image that is not listed
    "no-annotation",
    "two-annotations",  # for one image
    "shared-file",  # one file for two images or two annotations
    "missing-file",
    "broken-file",
    "size-mismatch",
    "unlisted-id",  # pixels that no segment is listed for
    "empty-segment",
    "wrong-area",
    "wrong-box",
]
KINDS: tuple[str, ...] = get_args(FindingKind)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the file it is in."""

    kind: FindingKind
    file: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was found in a data set of `images` images."""

    images: int
    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> dict[str, int]:
        """How many findings there are of each kind that occurs."""
        return dict(sorted(Counter(str(finding.kind) for finding in self.findings).items()))

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: `images`, the number of findings of each of the `kinds`, and the `findings`."""
        return {"images": self.images, "kinds": self.kinds, "findings": [f.to_dict() for f in self.findings]}


Size = tuple[int, int]
"""(height, width) in pixels."""


def look_at_photo(path: Path) -> tuple[Size | None, list[Finding]]:
    """Decode a photo in full; its size, None where it cannot be read."""
    try:
        width, height = read_image(path).size
    except InputError as error:
        return None, [unreadable(path, error)]
    return (height, width), _checksums(path)


def look_at_ids(path: Path, read: Callable[[], NDArray[np.integer]]) -> tuple[NDArray[np.integer] | None, list[Finding]]:
    """Decode an id picture in full; its (H, W) ids, None where it cannot be read."""
    try:
        return read(), _checksums(path)
    except InputError as error:
        return None, [unreadable(path, error)]


def _checksums(path: Path) -> list[Finding]:
    """A PNG's checksums. With a changed byte on the disk, it may still be decoded, into other pixels."""
    try:
        with open_image(path) as picture:
            picture.verify()
    except BROKEN_IMAGE as error:
        return [Finding("broken-file", str(path), one_line(error))]
    return []


def unreadable(path: Path, error: InputError) -> Finding:
    """A file that is not there, or that its reader refused."""
    if not path.exists():
        return Finding("missing-file", str(path), "no such file")
    return Finding("broken-file", str(path), str(error).rpartition(f"'{path}': ")[2])


def size_mismatch(path: Path, size: Size, other: str, expected: Size) -> list[Finding]:
    """A finding if the sizes differ; `other` names the file with the expected size."""
    if size == expected:
        return []
    found, wanted = (f"{s[1]} x {s[0]}" for s in (size, expected))
    return [Finding("size-mismatch", str(path), f"expected {other}'s {wanted} pixels, got {found}")]
