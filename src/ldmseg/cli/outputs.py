"""Whether results can be written where the user wants them, asked before anything is computed."""

from __future__ import annotations

import os
from pathlib import Path

from ldmseg.errors import InputError


def check_output_folder(folder: Path, option: str = "--output") -> None:
    """Nothing is created.

    Raises:
        InputError: a file is in the way, or the folder (or the first existing one above it) cannot be written to.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{option}: expected a folder, got '{folder}', where '{existing}' is no folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{option}: expected a folder to write to, got '{folder}', where '{existing}' may not be written to")


def check_output_file(file: Path, option: str = "--report") -> None:
    """As `check_output_folder`, for one file.

    Raises:
        InputError: a folder has that name, or the file's folder cannot be written to.
    """
    if file.is_dir():
        raise InputError(f"{option}: expected a file, got the folder '{file}'")
    check_output_folder(file.parent, option)
