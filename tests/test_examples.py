"""The notebooks and scripts of `examples` run from top to bottom."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def code_of(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_hold_no_output(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    for code in code_of(notebook):
        compile(code, notebook.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "fine_tune"])
def test_notebooks_run(name: str, tmp_path: Path) -> None:
    """In a process of its own, cell by cell in one namespace, as a notebook does."""
    script = tmp_path / f"{name}.py"
    script.write_text("\n\n".join(code_of(EXAMPLES / f"{name}.ipynb")), encoding="utf-8")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
