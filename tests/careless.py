"""Programs that break what the kill tests check, so that it is known that they would tell."""

from __future__ import annotations

from pathlib import Path


def half_written(arguments: list[str]) -> int:
    """A file under its own name before it is complete."""
    folder = Path(arguments[0])
    folder.mkdir(exist_ok=True)
    for number in range(20):
        with (folder / f"{number}.txt").open("w") as file:
            file.write("first half, ")
            file.flush()
            (folder / "between").mkdir()
            (folder / "between").rmdir()
            file.write("second half")
    return 0


def leftovers(arguments: list[str]) -> int:
    """A temporary file that a later run does not remove, because its name is another one each time."""
    folder = Path(arguments[0])
    folder.mkdir(exist_ok=True)
    for number in range(20):
        temporary = folder / f".{len(list(folder.iterdir()))}.tmp"
        temporary.write_text("whole")
        temporary.rename(folder / f"{number}.txt")
    return 0


def forgetful(arguments: list[str]) -> int:
    """A second run adds to what the first one left."""
    folder = Path(arguments[0])
    folder.mkdir(exist_ok=True)
    for number in range(20):
        with (folder / "lines.log").open("a") as file:
            file.write(f"{number}\n")
    return 0
