from __future__ import annotations

from pathlib import Path

import data_trees
import pytest
from command import done, files_in, refused
from masks import random_map
from test_connect_exchange import completed, labelme
from test_connect_segments_ai import pointing
from test_formats_tools_segments_ai import make, release
from tiny import tiny_pipeline

from ldmseg.formats.coco_panoptic import open_root


@pytest.mark.slow
def test_labelme_in_completed_and_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pmap = random_map(1)
    labelme(tmp_path / "labelme", pmap)
    given, model = tmp_path / "given", tiny_pipeline(tmp_path / "model")
    report = done(capsys, "connect", "labelme", "import", tmp_path / "labelme", "-o", given, "--json").json()
    assert report == {"data": f"coco-panoptic:{given}", "images": 1, "segments": len(pmap), "lost": []}
    done(capsys, "inpaint", given / "images", "--partial", given / "panoptic", "-o", tmp_path / "full", "--model", model, "--device", "cpu")
    full = open_root(tmp_path / "full")[0].read_map()
    assert (full.ids[pmap.ids > 0] == pmap.ids[pmap.ids > 0]).all() and (full.ids > 0).all()
    back = ["connect", "labelme", "export", f"coco-panoptic:{tmp_path / 'full'}", "--images", given / "images", "--names", report["data"]]
    result = done(capsys, *back, "-o", tmp_path / "back")
    assert "1 image with" in result.err and files_in(tmp_path / "back") == {"photos/a.json", "photos/a.png", "photos/labels.txt"}


@pytest.mark.slow
def test_label_studio(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pmap = random_map(1)
    spec, _ = completed(tmp_path / "full", pmap)
    args = ["connect", "label-studio", "export", spec, "--kind", "polygon", "--prefix", "https://h/", "--annotations"]
    done(capsys, *args, "-o", tmp_path / "out")
    data_trees.photo(tmp_path / "out" / "images" / "a.png", *pmap.shape)
    done(capsys, "connect", "label-studio", "import", tmp_path / "out" / "tasks.json", "-o", tmp_path / "back")
    assert (open_root(tmp_path / "back")[0].read_map().ids > 0).all()
    assert "expected import, export or --serve" in refused(capsys, "connect", "label-studio")
    assert "--serve: expected without a verb" in refused(
        capsys, "connect", "label-studio", "--serve", "import", tmp_path / "out", "-o", tmp_path / "x"
    )
    assert "--url: expected http://HOST:PORT" in refused(capsys, "connect", "label-studio", "--serve", "--url", "nowhere")


def test_segments(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "remote").mkdir()
    make(tmp_path / "remote")
    path = data_trees.write(tmp_path / "remote" / "v1.json", release(pointing("images/a.png", "bitmaps/u1.png")))
    done(capsys, "connect", "segments", "fetch", path, "-o", tmp_path / "fetched")
    done(capsys, "connect", "segments", "import", tmp_path / "fetched", "-o", tmp_path / "set")
    assert len(open_root(tmp_path / "set")) == 1
    monkeypatch.delenv("SEGMENTS_API_KEY", raising=False)
    assert "--key: expected a key" in refused(capsys, "connect", "segments", "upload", f"coco-panoptic:{tmp_path / 'set'}", "--to", "a/b")


def test_cvat(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(done(capsys, "connect", "cvat", "function").out.strip()).is_file()
    monkeypatch.delenv("CVAT_PASSWORD", raising=False)
    assert "CVAT_PASSWORD: expected" in refused(capsys, "connect", "cvat", "complete", "3", "--url", "http://h", "--user", "me")
    assert "root: expected a folder" in refused(capsys, "connect", "cvat", "import", tmp_path / "nothing", "-o", tmp_path / "out")
