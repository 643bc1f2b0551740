"""Files that a data set names: below its folder, and nothing but files."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from ldmseg.errors import InputError, quoted

LONGEST = 1024
"""Characters of a name; systems take some 250 for each of its parts."""


def path_inside(folder: Path, name: str, what: str = "file_name") -> Path:
    """The path of a file that an annotation names, below `folder`. Whether the file exists is not checked.

    A name leads out of a data set if it is absolute or has `..` in it. Links are followed, because the owner of the folder made them.

    Raises:
        InputError: the name is none, or leads out of the folder.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    absolute = posix.is_absolute() or (os.name == "nt" and bool(windows.drive or windows.root))
    parts = windows.parts if os.name == "nt" else posix.parts
    if absolute or ".." in parts or not parts or "\0" in name or len(name) > LONGEST:
        raise InputError(f"{what}: expected a path below '{folder}', got {quoted(name)}")
    return folder / name
