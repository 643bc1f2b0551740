from __future__ import annotations

import errno
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from ldmseg import atomic
from ldmseg.atomic import atomic_write, remove_leftovers, write_bytes, write_json, write_text
from ldmseg.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_target_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "x.txt"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["x.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_after_an_exception_the_old_file_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    target = write_text(tmp_path / "x.txt", "old")
    with pytest.raises(error), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_helpers_write_what_they_are_given(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "b", b"\x00\xff").read_bytes() == b"\x00\xff"
    assert write_text(tmp_path / "t", "é\n").read_bytes() == "é\n".encode()
    assert json.loads(write_json(tmp_path / "j", {"a": [1, None]}).read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "j", float("nan"))
    assert json.loads((tmp_path / "j").read_text()) == {"a": [1, None]}


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "sync", full)
    target = tmp_path / "x.png"
    with pytest.raises(InputError) as caught:
        write_bytes(target, b"1")
    assert str(caught.value) == f"output: cannot write '{target}': No space left on device"
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_picture_that_does_not_fit_is_an_input_error(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        target = tmp_path / f"x.{suffix}"
        with pytest.raises(InputError, match=r"cannot write .*x\."), atomic_write(target) as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            Image.effect_noise((200, 200), 50).save(temporary)
        assert names(tmp_path) == []


def test_a_compiled_writer_that_lost_the_error_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left on device"), atomic_write(tmp_path / "x.safetensors"):
        raise RuntimeError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')


def test_an_error_about_another_file_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "x"):
        (tmp_path / "input").read_bytes()
    assert names(tmp_path) == []


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="a folder is there"):
        write_bytes(tmp_path / "folder", b"")
    with pytest.raises(InputError, match="no regular file"):
        write_bytes(os.devnull, b"")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output: cannot write '.*child': "):
        write_bytes(tmp_path / "file" / "child", b"")


@pytest.mark.skipif(sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_bytes(tmp_path / "x", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    new = write_bytes(tmp_path / "new", b"")
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    new.chmod(0o640)
    assert stat.S_IMODE(write_bytes(new, b"2").stat().st_mode) == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write_text(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_a_long_name_is_written(tmp_path: Path) -> None:
    name = "n" * 251 + ".png"
    write_bytes(tmp_path / name, b"1")
    assert names(tmp_path) == [name]


def test_leftovers_of_killed_processes_and_nothing_else_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".map.0123456789ab.tmp.png"
    kept = ["map.png", ".hidden", ".map.tmp.png", ".map.0123456789AB.tmp.png", "x.0123456789ab.tmp.png", "below/.map.0123456789ab.tmp.png"]
    (tmp_path / "below").mkdir()
    for path in (left, *(tmp_path / name for name in kept)):
        path.touch()
    with suppress(KeyboardInterrupt), atomic_write(tmp_path / "a.tar.gz") as temporary:
        name = temporary.name
        raise KeyboardInterrupt
    (tmp_path / name).touch()  # as if the process had been killed instead
    remove_leftovers(tmp_path, tmp_path / "missing")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
