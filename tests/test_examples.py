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


@pytest.mark.slow
def test_the_video_example(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode())
    command = [sys.executable, EXAMPLES / "video.py", tmp_path / "clip.mp4", "--output", tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"panoptic.json", *(f"frame_{n:04d}{kind}.png" for n in (0, 1) for kind in ("", "_overlay"))}
