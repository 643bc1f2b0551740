from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from coco_set import make_coco_set
from command import refused
from PIL import Image

from ldmseg.data.check import check_dataset
from ldmseg.data.convert import convert_dataset
from ldmseg.data.datasets import load_dataset
from ldmseg.errors import InputError
from ldmseg.formats.cityscapes import photo_name
from ldmseg.formats.coco_json import ImageEntry
from ldmseg.formats.inside import path_inside


@pytest.mark.parametrize("name", ["a.png", "b/c/a.png", "./a.png", "..a/..png", "...", "a b", "-"])
def test_names_below_a_folder(name: str, tmp_path: Path) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["/etc/hostname", "../a.png", "b/../../a.png", "..", "b/..", "", ".", "//x", "a\0b", "/" * 10**5])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^file_name: expected a path below '.*', got '.*'$") as caught:
        path_inside(tmp_path, name)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def edited(tmp_path: Path, key: str, name: str) -> str:
    spec = make_coco_set(tmp_path / "data", count=2)
    (path,) = (tmp_path / "data").rglob("*.json")
    document = json.loads(path.read_text())
    document[key][0]["file_name"] = name
    path.write_text(json.dumps(document))
    return spec


@pytest.mark.parametrize("key", ["images", "annotations"])
@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.png", "x/../../secret.png"])
def test_nothing_outside_of_a_data_set_is_read(key: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`data convert --to labels` copied it."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    spec = edited(tmp_path, key, name)
    with pytest.raises(InputError, match="expected a path below"):
        load_dataset(spec)
    assert "expected a path below" in refused(capsys, "data", "convert", "--data", spec, "--to", "labels", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [f.kind for f in check_dataset(spec).findings if "expected a path below" in f.message] == ["broken-json"]


def test_an_image_id_is_no_way_out_either() -> None:
    name = photo_name(ImageEntry("../../etc_passwd", "x.png"))
    with pytest.raises(InputError, match="expected a path below"):
        path_inside(Path("photos"), name)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    """A device was copied until the disk was full, and a pipe blocked for ever."""
    spec = make_coco_set(tmp_path / "data", count=2)
    photo = load_dataset(spec).image_path(0)  # type: ignore[attr-defined]
    photo.unlink()
    if kind == "pipe":
        os.mkfifo(photo)
    elif kind == "folder":
        photo.mkdir()
    else:
        photo.symlink_to("/dev/zero")
    message = "it is a folder" if kind == "folder" else "it is no regular file"
    for target in ("labels", "coco-panoptic"):
        with pytest.raises(InputError, match=f"image: cannot read '.*': {message}"):
            convert_dataset(spec, tmp_path / "out", target)
    with pytest.raises(InputError, match=message):
        load_dataset(spec).image(0)
    assert any(f.kind == "broken-file" and message in f.message for f in check_dataset(spec).findings)


def test_links_to_photos_are_followed(tmp_path: Path) -> None:
    """Whoever made the folder made them; sets are often put together in this way."""
    spec = make_coco_set(tmp_path / "data", count=2)
    photo = load_dataset(spec).image_path(0)  # type: ignore[attr-defined]
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    assert convert_dataset(spec, tmp_path / "out", "labels").images == 2
