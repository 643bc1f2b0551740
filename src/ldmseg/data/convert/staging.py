"""Several files and folders that appear together or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from ldmseg.atomic import write_json, writing_errors
from ldmseg.errors import InputError
from ldmseg.locking import locked

_STAGE = ".converting."
_MOVING = "moving.json"  # in the stage, once the parts in it are complete: their paths in the order in which they move


@contextmanager
def staged(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield a hidden folder inside `folder`; when the block ends, the `parts` that were made in it move to their places.

    What a killed process left of such a block is removed first: its hidden folder, and parts that had moved while others had not.

    Args:
        folder: created if it is missing; after an exception nothing of it is left, or it is as it was. Held while the block runs.
        parts: relative paths of files and folders, none of which is there yet. The last one moves last: without it the rest is no data set.

    Raises:
        InputError: a part is there already, or cannot be written, or another process writes into the folder.
    """
    with locked(folder):
        with writing_errors(folder):
            for leftover in folder.glob(f"{_STAGE}*"):
                _undo(leftover)
        for part in parts:
            if os.path.lexists(folder / part):
                raise InputError(f"output: expected a folder without '{part}', got '{folder}', where it would be overwritten")
        stage = folder / f"{_STAGE}{secrets.token_hex(6)}"
        try:
            with writing_errors(folder):
                stage.mkdir()
            yield stage
            with writing_errors(folder):
                write_json(stage / _MOVING, list(parts))
                for part in parts:
                    (folder / part).parent.mkdir(parents=True, exist_ok=True)
                    os.rename(stage / part, folder / part)
        finally:
            _undo(stage)


def _undo(stage: Path) -> None:
    """Remove a stage, and the parts that moved out of it unless all did."""
    folder, parts = stage.parent, _moving(stage)

    def moved(part: str) -> bool:
        return os.path.lexists(folder / part) and not os.path.lexists(stage / part)

    if parts and not moved(parts[-1]):
        for part in parts:
            if moved(part):
                _remove(folder / part)
            with suppress(OSError):  # something else is in it
                for above in PurePath(part).parents[:-1]:
                    (folder / above).rmdir()
    shutil.rmtree(stage, ignore_errors=True)


def _moving(stage: Path) -> list[str]:
    """The parts of a stage that were complete; none of one in which they were not."""
    try:
        parts = json.loads((stage / _MOVING).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    root = Path(os.path.realpath(stage.parent))
    names = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
    return parts if names and all(root in Path(os.path.realpath(root / part)).parents for part in parts) else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
