from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import data_trees
import numpy as np
import pytest
from masks import CATEGORIES, random_map
from PIL import Image
from test_formats_tools_segments_ai import IDS, make, release, sample

from ldmseg.connect import segments_ai
from ldmseg.connect.segments_ai import fetch_release, make_client, upload, with_unnamed
from ldmseg.data.datasets import load_dataset
from ldmseg.errors import InputError
from ldmseg.formats.coco_json import Category
from ldmseg.formats.id_png import rgb_to_ids


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """A server with the photo and the bitmap of a hand-made release."""
    (tmp_path / "remote").mkdir()
    make(tmp_path / "remote", sample())

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path / "remote"))

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def pointing(photo: str, bitmap: str) -> dict[str, Any]:
    one = sample()
    one["attributes"]["image"]["url"] = photo
    one["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"]["url"] = bitmap
    return one


@pytest.mark.slow
def test_a_release_is_fetched_and_read(tmp_path: Path, remote: str) -> None:
    path = data_trees.write(tmp_path / "v1.json", release(pointing(f"{remote}/images/a.png", f"{remote}/bitmaps/u1.png")))
    assert fetch_release(path, tmp_path / "out") == 1
    data = load_dataset(f"segments:{tmp_path / 'out'}")
    assert data.map(0).ids.tolist() == IDS.tolist() and data.image(0).shape == (*IDS.shape, 3)
    with pytest.raises(InputError, match="output: expected a folder without 'images'"):
        fetch_release(path, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bitmap", "message"),
    [
        ("{remote}/nothing.png", "url: cannot fetch"),
        ("file:///etc/passwd", "url: expected http, https or a file beside the release"),
        ("ftp://host/a.png", "url: expected http, https or a file beside the release"),
        ("../secret.png", "url: expected a path below"),
        ("/etc/passwd", "url: expected a path below"),
        ("http://127.0.0.1:1/a.png", "url: cannot fetch"),
    ],
)
def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path, remote: str, bitmap: str, message: str) -> None:
    path = data_trees.write(tmp_path / "v1.json", release(pointing(f"{remote}/images/a.png", bitmap.format(remote=remote))))
    with pytest.raises(InputError, match=message):
        fetch_release(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_large_files_are_refused(tmp_path: Path, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_ai, "LARGEST", 10)
    path = data_trees.write(tmp_path / "v1.json", release(pointing(f"{remote}/images/a.png", f"{remote}/bitmaps/u1.png")))
    with pytest.raises(InputError, match="url: expected at most"):
        fetch_release(path, tmp_path / "out")


def test_maps_are_uploaded_as_pre_labels() -> None:
    pmap = random_map(2)
    assets: list[Any] = []
    labels: list[Any] = []

    class Client:
        def get_samples(self, dataset_identifier: str) -> list[Any]:
            assert dataset_identifier == "me/cells"
            return [SimpleNamespace(name="a.png", uuid="u1"), SimpleNamespace(name="z.png", uuid="u2")]

        def upload_asset(self, file: Any, filename: str) -> Any:
            assets.append(np.asarray(Image.open(file)))
            return SimpleNamespace(url=f"https://cdn/{filename}")

        def add_label(self, sample_uuid: str, labelset: str, attributes: Any, label_status: str) -> None:
            labels.append((sample_uuid, labelset, json.loads(json.dumps(attributes)), label_status))

    done = upload(Client(), "me/cells", {"a.png": pmap, "b.png": pmap})
    assert done.labels == 1 and done.unknown == ("b.png",)
    assert (rgb_to_ids(assets[0][..., :3]) == pmap.ids).all() and (assets[0][..., 3] == 255).all()
    ((uuid, labelset, attributes, status),) = labels
    assert (uuid, labelset, status) == ("u1", "ground-truth", "PRELABELED")
    assert attributes["segmentation_bitmap"]["url"] == "https://cdn/label.png"
    assert [a["id"] for a in attributes["annotations"]] == [s.id for s in pmap.segments]


def test_segments_without_a_name_are_left_void_or_get_a_category() -> None:
    pmap = random_map(2)
    categories = (*CATEGORIES[:2], Category(7, "segment"))
    kept = with_unnamed(pmap, categories, None)
    assert {s.category_id for s in kept.segments} == {1, 2} and (kept.ids == 0).sum() > (pmap.ids == 0).sum()
    assert {s.category_id for s in with_unnamed(pmap, categories, 1).segments} == {1, 2}


def test_a_client_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMENTS_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"--key: expected a key of Segments\.ai"):
        make_client(None)
