"""Several files and folders that appear together or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ldmseg.atomic import writing_errors
from ldmseg.errors import InputError


@contextmanager
def staged(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield a hidden folder inside `folder`; when the block ends, the `parts` that were made in it move to their places.

    Args:
        folder: created if it is missing; after an exception nothing of it is left, or it is as it was.
        parts: relative paths of files and folders, none of which is there yet. The last one moves last: without it the rest is no data set.

    Raises:
        InputError: a part is there already, or cannot be written.
    """
    for part in parts:
        if os.path.lexists(folder / part):
            raise InputError(f"output: expected a folder without '{part}', got '{folder}', where it would be overwritten")
    stage = folder / f".converting.{secrets.token_hex(6)}"
    created = _missing_folders(folder)
    moved: list[Path] = []
    try:
        with writing_errors(folder):
            stage.mkdir(parents=True)
        yield stage
        with writing_errors(folder):
            for part in parts:
                target = folder / part
                created += _missing_folders(target.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(stage / part, target)
                moved.append(target)
    except BaseException:
        for target in moved:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        shutil.rmtree(stage, ignore_errors=True)
        for path in sorted(created, key=lambda p: len(p.parts), reverse=True):
            with suppress(OSError):  # somebody else put something there, or it was never made
                path.rmdir()
        raise
    shutil.rmtree(stage, ignore_errors=True)


def _missing_folders(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.parents) if not path.exists()]
