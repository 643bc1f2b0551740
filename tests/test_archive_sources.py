"""Which photos a source names, and where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import make_photos, make_tar, photo_bytes

from ldmseg.errors import InputError
from ldmseg.labelling.archive.remote import read_bytes
from ldmseg.labelling.archive.sources import Entry, entries


def names(*sources: Path | str, partial: str | None = None) -> list[str]:
    return [entry.name for entry in entries([str(one) for one in sources], partial)]


def test_a_folder_with_all_that_is_below_it(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "photos" / ".git").mkdir()
    (tmp_path / "photos" / ".git" / "a.png").write_bytes(b"x")
    (tmp_path / "photos" / "0" / "B.JPG").write_bytes(b"x")
    assert names(tmp_path / "photos") == ["0/00000.png", "0/00003.png", "0/B.JPG", "1/00001.png", "2/00002.png"]


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 1)
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    assert names(tmp_path / "photos") == ["0/00000.png"]


def test_patterns_and_single_photos(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "0" / "x.txt").write_text("no photo")
    assert names(tmp_path / "photos" / "**" / "*") == names(tmp_path / "photos")
    assert names(f"{tmp_path}/photos/[01]/*.png") == ["0/00000.png", "0/00003.png", "1/00001.png"]
    assert names(tmp_path / "photos" / "2" / "00002.png") == ["00002.png"]
    odd = tmp_path / "a[1].png"
    odd.write_bytes(b"x")
    assert names(odd) == ["a[1].png"]  # a file of that name is no pattern
    with pytest.raises(InputError, match="that something matches"):
        names(tmp_path / "*.bmp")


def test_a_list_names_its_photos_from_its_folder(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 2)
    (tmp_path / "photos" / "list.txt").write_text("0/00000.png\n\n  ./1/00001.png\n", encoding="utf-8")
    assert names(tmp_path / "photos" / "list.txt") == ["0/00000.png", "1/00001.png"]


def test_a_list_of_photos_elsewhere_names_them_from_their_common_folder(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    (tmp_path / "lists").mkdir()
    lines = [str(tmp_path / "photos" / "0" / "00000.png"), "../photos/1/00001.png", "missing.png"]
    (tmp_path / "lists" / "a.txt").write_text("\n".join(lines[:2]))
    found = list(entries([str(tmp_path / "lists" / "a.txt")]))
    assert [entry.name for entry in found] == ["0/00000.png", "1/00001.png"]
    assert all(Path(entry.place).is_file() for entry in found)


def test_the_photos_of_a_tar_can_be_read_on_their_own(tmp_path: Path) -> None:
    one, two, given = photo_bytes(1), photo_bytes(2, format="JPEG"), photo_bytes(3)
    members = {"a/x.png": one, "a/x.json": b"{}", "a/x.partial.png": given, "y.jpg": two, "y.txt": b"t", "z.cls": b"1"}
    tar = make_tar(tmp_path / "s.tar", members)
    found = list(entries([str(tar)], "partial.png"))
    assert [entry.name for entry in found] == ["a/x.png", "y.jpg"]
    assert read_bytes(found[0].place, *found[0].part or ()) == one
    assert read_bytes(found[1].place, *found[1].part or ()) == two
    assert read_bytes(found[0].place, *found[0].partial or ()) == given
    assert found[1].partial is None


def test_a_tar_of_photos_with_dots_in_their_names(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "s.tar", {"my.first.jpg": b"1", "my.second.jpg": b"2"})
    assert names(tar) == ["my.first.jpg", "my.second.jpg"]


def test_tars_by_ranges_and_patterns(tmp_path: Path) -> None:
    for number in range(3):
        make_tar(tmp_path / f"train-{number:03d}.tar", {f"{number}.jpg": b"x"})
    assert names(tmp_path / "train-{000..002}.tar") == names(tmp_path / "train-*.tar") == ["0.jpg", "1.jpg", "2.jpg"]


def test_links_and_folders_in_a_tar_do_not_count(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"{ord(kind)}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert names(tmp_path / "s.tar") == []


@pytest.mark.parametrize("source", ["nowhere", "photos.tar.gz", "broken.tar", "binary.txt"])
def test_sources_that_are_none(tmp_path: Path, source: str) -> None:
    (tmp_path / "photos.tar.gz").write_bytes(b"x")
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=source.replace(".", r"\.")):
        names(tmp_path / source)


def test_a_store_elsewhere_through_fsspec(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    make_tar(tmp_path / "s.tar", {"t.png": photo_bytes(3)})
    for name, data in {"a.png": b"1", "b/c.jpg": b"22", "b/n.txt": b"no"}.items():
        store.pipe_file(f"/arch-a/{name}", data)
    store.pipe_file("/arch-b/s.tar", (tmp_path / "s.tar").read_bytes())
    found = list(entries(["memory://arch-a"]))
    assert [entry.name for entry in found] == ["a.png", "b/c.jpg"]
    assert read_bytes(found[1].place) == b"22"
    assert [entry.name for entry in entries(["memory://arch-a/**/*.jpg"])] == ["b/c.jpg"]
    tar = list(entries(["memory://arch-b/*.tar"]))
    assert read_bytes(tar[0].place, *tar[0].part or ()) == photo_bytes(3)
    (tmp_path / "list.txt").write_text("memory://arch-a/a.png\nmemory://arch-a/b/c.jpg\n")
    assert list(entries([str(tmp_path / "list.txt")])) == [
        Entry("a.png", "memory://arch-a/a.png"),
        Entry("b/c.jpg", "memory://arch-a/b/c.jpg"),
    ]


def test_an_unknown_kind_of_store() -> None:
    with pytest.raises(InputError, match="nosuch://"):
        names("nosuch://bucket/photos")
