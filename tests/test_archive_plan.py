"""Order, names and numbers of an archive's photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmseg.errors import InputError
from ldmseg.labelling.archive.plan import map_name, read_shard, shards_of, write_plan
from ldmseg.labelling.archive.sources import Entry


def planned(folder: Path, *names: str) -> list[tuple[int, str, str | None]]:
    write_plan(folder, [Entry(name, f"/at/{name}") for name in names], lambda count: None)
    return [(item.image_id, item.entry.name, item.problem) for shard in shards_of(folder, 2) for item in read_shard(folder, shard)]


def test_photos_get_their_own_numbers_and_others_free_ones(tmp_path: Path) -> None:
    """As `ldmseg segment` numbers them."""
    found = planned(tmp_path, "cat.jpg", "a/000139.jpg", "b/139.jpg", "1.png", "dog.jpg", "3.jpg", "0.jpg", "12345678901234567.jpg")
    assert [image_id for image_id, *_ in found] == [2, 139, 4, 1, 5, 3, 0, 6]
    assert len(list(tmp_path.iterdir())) == 1


def test_shards_are_found_again_by_their_place(tmp_path: Path) -> None:
    entries = [Entry(f"{n:03d}.jpg", "t.tar", (512 * n, n), (9, 9) if n % 2 else None) for n in range(7)]
    assert write_plan(tmp_path, iter(entries), lambda count: None) == 7
    shards = shards_of(tmp_path, 3)
    assert [(shard.number, shard.count) for shard in shards] == [(0, 3), (1, 3), (2, 1)]
    assert [item.entry for shard in reversed(shards) for item in read_shard(tmp_path, shard)] == [*entries[6:], *entries[3:6], *entries[:3]]


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'b/x\.jpg' .* and 'b/x\.png' .* 'b/x\.png'; label them apart"):
        planned(tmp_path, "a/x.jpg", "b/x.jpg", "c.jpg", "b/x.png")
    with pytest.raises(InputError, match="expected photos, found none"):
        planned(tmp_path)


@pytest.mark.parametrize("name", ["../x.jpg", "/x.jpg", "a/../../x.jpg", "a\\..\\x.jpg", "x\0.jpg", "\udcff.jpg", "x" * 252 + ".jpg"])
def test_names_that_no_map_can_have(tmp_path: Path, name: str) -> None:
    ((_, told, problem),) = planned(tmp_path, name)
    assert problem is not None and told.encode("utf-8")


def test_no_map_replaces_a_photo(tmp_path: Path) -> None:
    photo = Entry("x.png", str(tmp_path / "panoptic" / "x.png"))
    with pytest.raises(InputError, match="--output"):
        write_plan(tmp_path / ".label", [photo], lambda count: None, tmp_path / "panoptic")


def test_names_of_maps() -> None:
    assert [map_name(name) for name in ("a/b.c.jpg", "x.png")] == ["a/b.c.png", "x.png"]
