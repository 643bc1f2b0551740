"""Running the command line inside the test's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ldmseg.cli import main


@dataclass(frozen=True)
class Result:
    """Exit code, and what stood on stdout and stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> Result:
    """`ldmseg ARGS`."""
    capsys.readouterr()
    code = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return Result(code, out, err)


def done(capsys: pytest.CaptureFixture[str], *args: object) -> Result:
    """`run`, which must succeed."""
    result = run(capsys, *args)
    assert result.code == 0, result.err
    return result


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The one line on stderr with which `ldmseg ARGS` refuses; nothing stands on stdout."""
    result = run(capsys, *args)
    assert result.code == 2, result
    assert result.out == ""
    line, end = result.err[:-1], result.err[-1:]
    assert line.startswith("ldmseg: error: ") and "\n" not in line and end == "\n", result.err
    return line.removeprefix("ldmseg: error: ")


def files_in(folder: Path) -> set[str]:
    """Relative paths of every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
