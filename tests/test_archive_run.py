"""A whole run in the test's own process: what is written, what fails, and what a second call does."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from archives import HereEngine, failed, label_here, make_photos, make_tar, photo_bytes, results
from cheap import CheapSegmenter

from ldmseg.errors import InputError
from ldmseg.formats.coco_panoptic import open_root
from ldmseg.formats.id_png import write_id_png
from ldmseg.formats.image import read_image
from ldmseg.labelling.archive import loading, remote
from ldmseg.labelling.archive.failure import stopped
from ldmseg.labelling.archive.job import STATE, DoneLines
from ldmseg.labelling.archive.progress import Progress, TooManyFailures
from ldmseg.labelling.photos import photo_seed
from ldmseg.locking import locked
from ldmseg.panoptic import PanopticMap
from ldmseg.segmenters.base import Photo


class Interrupted(Exception):
    """What ends a run in a test."""


def interrupt_after(shards: int) -> HereEngine:
    def after(count: int) -> None:
        if count == shards:
            raise Interrupted

    return HereEngine(after=after)


def test_a_folder_becomes_a_panoptic_data_set(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 10), tmp_path / "new" / "out"
    report = label_here(out, photos, info={"description": "test"})
    assert (report.photos, report.failed, report.shards, report.labelled_now) == (10, 0, 3, 10)
    data = open_root(out)
    assert [record.file_name for record in data] == sorted(str(p.relative_to(photos)) for p in photos.rglob("*.png"))
    assert [record.image_id for record in data] == [int(Path(record.file_name).stem) for record in data]
    for record in data:
        photo = np.asarray(read_image(photos / record.file_name))
        expected = CheapSegmenter()([photo], None, [photo_seed(0, Path(record.file_name).stem)])[0]
        assert np.array_equal(record.read_map().ids, expected.ids)
    document = json.loads((out / "panoptic.json").read_text())
    assert document["info"] == {"description": "test"} and "score" not in document["annotations"][0]["segments_info"][0]
    assert not (out / "failed.jsonl").exists() and report.failures is None


@pytest.mark.parametrize("format", ["coco-panoptic", "webdataset", "parquet"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path, format: str) -> None:
    photos = make_photos(tmp_path / "photos", 10)
    (photos / "1" / "bad.jpg").write_text("x")
    whole, out = tmp_path / "whole", tmp_path / "out"
    label_here(whole, photos, format=format)
    with pytest.raises(Interrupted):
        label_here(out, photos, format=format, engine=interrupt_after(1))
    assert not (out / "panoptic.json").exists()
    (out / STATE / "done.jsonl").open("a").write('{"shard": 1, "pho')  # a line that a killed process did not finish
    (out / STATE / "staging" / "000001-x").mkdir(parents=True)
    (out / ".000001.x.tmp.tar").touch()
    asked: list[int] = []
    report = label_here(out, photos, format=format, engine=HereEngine(after=asked.append))
    assert asked == [1, 2] and (report.shards_before, report.labelled_now) == (1, 7)
    assert results(out) == results(whole) and len(results(out)) >= 4
    again = label_here(out, photos, format=format, engine=interrupt_after(1))
    assert (again.labelled_now, again.shards_before, again.failed) == (0, 3, 1)
    assert results(out) == results(whole)
    left = {path.name for path in (out / STATE).iterdir()}
    assert left == {"job.json", "plan.jsonl", "done.jsonl", "segments"}


def test_photos_that_come_later_do_not_change_a_run(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 5), tmp_path / "out"
    with pytest.raises(Interrupted):
        label_here(out, photos, engine=interrupt_after(1))
    make_photos(photos, 5, first=100)
    assert label_here(out, photos).photos == 5


def test_another_command_is_refused(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 3), tmp_path / "out"
    info = {"seed": 0, "inference": {"num_inference_steps": 4}}
    label_here(out, photos, info=info)
    before = results(out)
    label_here(out, photos, info=info, shard_size=None, threads=None)  # what was chosen stays
    for changed in ({"seed": 1}, {"format": "webdataset"}, {"shard_size": 5}, {"with_photos": True}):
        with pytest.raises(InputError, match=rf"--output: .*{next(iter(changed))}"):
            label_here(out, photos, **{"info": info, **changed})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="num_inference_steps 4, and now it is 8"):
        label_here(out, photos, info={"seed": 0, "inference": {"num_inference_steps": 8}})
    with pytest.raises(InputError, match="sources"):
        label_here(out, tmp_path, info=info)
    assert results(out) == before


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    with pytest.raises(InputError, match="which holds '0'"):
        label_here(photos, photos)
    (tmp_path / "damaged" / STATE).mkdir(parents=True)
    (tmp_path / "damaged" / STATE / "job.json").write_text("{}")
    with pytest.raises(InputError, match="of this version"):
        label_here(tmp_path / "damaged", photos)
    with locked(tmp_path / "out"), pytest.raises(InputError, match="in use"):
        label_here(tmp_path / "out", photos)


# ------------------------------------------------------------------------------------------------------------------------ failures
def test_a_bad_photo_spoils_no_other(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 6), tmp_path / "out"
    label_here(tmp_path / "good", photos)
    (photos / "0" / "00001.jpg").write_bytes(photo_bytes(1)[:-30])
    (photos / "0" / "00002.jpg").touch()
    report = label_here(out, photos)
    assert report.failed == 2 and report.failures == str(out / "failed.jsonl")
    assert {name: "empty" in why for name, why in failed(out).items()} == {"0/00001.jpg": False, "0/00002.jpg": True}
    good = results(tmp_path / "good")
    assert {name: digest for name, digest in results(out).items() if "/" in name} == {n: d for n, d in good.items() if "/" in n}


def test_photos_that_the_segmenter_refuses(tmp_path: Path) -> None:
    class Picky(CheapSegmenter):
        def __call__(self, images, partials, seeds, captions=None):  # type: ignore[no-untyped-def]
            if any(image.shape[0] == 7 for image in images):
                raise InputError("photo: expected another height")
            if any(image.shape[0] == 5 for image in images):
                raise RuntimeError("out of range")
            return super().__call__(images, partials, seeds)

    photos, out = make_photos(tmp_path / "photos", 4), tmp_path / "out"
    (photos / "0" / "odd.png").write_bytes(photo_bytes(1, (9, 7)))
    (photos / "1" / "odd.png").write_bytes(photo_bytes(1, (9, 5)))
    assert label_here(out, photos, engine=HereEngine(Picky())).failed == 2
    assert failed(out) == {"0/odd.png": "photo: expected another height", "1/odd.png": "RuntimeError: out of range"}
    assert len(open_root(out)) == 4


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), OSError(errno.EIO, "I/O error")]
)
def test_errors_that_the_next_photo_would_meet_end_the_run(tmp_path: Path, error: Exception) -> None:
    class Broken(CheapSegmenter):
        def __call__(self, images, partials, seeds, captions=None):  # type: ignore[no-untyped-def]
            raise error

    photos, out = make_photos(tmp_path / "photos", 4), tmp_path / "out"
    with pytest.raises(type(error)):
        label_here(out, photos, engine=HereEngine(Broken()))
    assert stopped(error).crash is None and "\n" not in stopped(error).message
    assert label_here(out, photos).failed == 0


def test_too_many_failures_stop_a_run_that_can_go_on(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 6), tmp_path / "out"
    for name in ("0/a.jpg", "1/a.jpg", "2/a.jpg"):
        (photos / name).write_text("x")
    with pytest.raises(TooManyFailures, match=r"2 of 6 photos failed, .* allows 1; the last was '1/a\.jpg': .*known format"):
        label_here(out, photos, max_failures=1)
    assert set(failed(out)) == {"0/a.jpg", "1/a.jpg"}
    assert label_here(out, photos, max_failures=3).failed == 3
    with pytest.raises(TooManyFailures):
        label_here(tmp_path / "other", photos, max_failures=0)


def test_failed_photos_can_be_tried_again(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 10), tmp_path / "out"
    good = (photos / "1" / "00001.png").read_bytes()
    (photos / "1" / "00001.png").write_bytes(b"x")
    assert label_here(out, photos).failed == 1
    (photos / "1" / "00001.png").write_bytes(good)
    assert label_here(out, photos).failed == 1
    asked: list[int] = []
    assert label_here(out, photos, retry_failed=True, engine=HereEngine(after=asked.append)).failed == 0
    assert asked == [1]
    label_here(tmp_path / "whole", photos)
    assert results(out) == results(tmp_path / "whole")


def test_names_that_lead_elsewhere_write_nothing_there(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "s.tar", {"../../evil.png": photo_bytes(0), "good.png": photo_bytes(1)})
    out = tmp_path / "deep" / "out"
    assert label_here(out, tar).failed == 1
    assert list(failed(out)) == ["../../evil.png"]
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("format", ["coco-panoptic", "webdataset", "parquet"])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    from ldmseg import atomic
    from ldmseg.labelling.archive import destinations, job

    photos, out = make_photos(tmp_path / "photos", 10), tmp_path / "out"
    real, count = atomic.sync, 0

    def sync(path: Path) -> None:
        nonlocal count
        count += 1
        if count > 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path)

    with monkeypatch.context() as patch:
        for module in (atomic, destinations, job):
            patch.setattr(module, "sync", sync)
        with pytest.raises(InputError, match=os.strerror(errno.ENOSPC)):
            label_here(out, photos, format=format)
    label_here(out, photos, format=format)
    label_here(tmp_path / "whole", photos, format=format)
    assert results(out) == results(tmp_path / "whole")


# ----------------------------------------------------------------------------------------------------------------- sources elsewhere
def test_a_lost_store_stops_the_run_and_fails_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for number in range(6):
        store.pipe_file(f"/lost/{number}.png", photo_bytes(number))
    store.pipe_file("/lost/9.png", b"no photo")
    monkeypatch.setattr(remote, "WAITS", (0.0,))
    out = tmp_path / "out"

    def lose(count: int) -> None:
        monkeypatch.setattr(type(store), "cat_file", lambda *args, **kwargs: (_ for _ in ()).throw(ConnectionResetError("reset by peer")))

    with monkeypatch.context(), pytest.raises(InputError, match=r"'memory://lost/\d\.png' cannot be reached: reset by peer"):
        label_here(out, "memory://lost", engine=HereEngine(after=lose))
    assert failed(out) == {}
    monkeypatch.undo()
    store.rm_file("/lost/5.png")
    assert label_here(out, "memory://lost").failed == 2
    assert "no such file" in failed(out)["5.png"] and "known format" in failed(out)["9.png"]


def test_a_drive_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 10), tmp_path / "out"

    def unplug(count: int) -> None:
        if count == 1:
            photos.rename(tmp_path / "away")

    with pytest.raises(InputError, match=r"photos' is not there any more"):
        label_here(out, photos, engine=HereEngine(after=unplug))
    (tmp_path / "away").rename(photos)
    assert label_here(out, photos).failed == 0


# ------------------------------------------------------------------------------------------------------------------ what is written
def test_tars_in_webdatasets_layout(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 5), tmp_path / "out"
    label_here(out, photos, format="webdataset", with_photos=True)
    assert set(results(out)) == {"000000.tar", "000001.tar"}
    with tarfile.open(out / "000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["0/00000.png", "0/00000.panoptic.png", "0/00000.json"] and len(names) == 12
        assert tar.extractfile("0/00000.png").read() == photo_bytes(0)  # type: ignore[union-attr]
        told = json.loads(tar.extractfile("0/00000.json").read())  # type: ignore[union-attr]
    assert told["file_name"] == "0/00000.png" and sum(one["area"] for one in told["segments_info"]) == told["width"] * told["height"]
    # What was written can be the source of a completion.
    second = tmp_path / "second"
    assert label_here(second, out / "*.tar", partial=".panoptic.png").failed == 0
    with tarfile.open(out / "000000.tar") as tar:
        given = tar.extractfile("0/00000.panoptic.png").read()  # type: ignore[union-attr]
    assert (second / "panoptic" / "0" / "00000.png").read_bytes() == given


def test_tables(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow (the extra `parquet`) is not installed")
    photos, out = make_photos(tmp_path / "photos", 5), tmp_path / "out"
    label_here(out, photos, format="parquet")
    label_here(tmp_path / "png", photos)
    rows = [row for name in sorted(results(out)) for row in parquet.read_table(out / name).to_pylist()]
    assert [row["file_name"] for row in rows] == [record.file_name for record in open_root(tmp_path / "png")]
    for row in rows:
        assert row["map"] == (tmp_path / "png" / "panoptic" / row["file_name"]).read_bytes() and row["photo"] is None
        assert sum(one["area"] for one in row["segments"]) == row["width"] * row["height"]


def test_partial_maps_are_completed_and_missing_ones_named(tmp_path: Path) -> None:
    photos, given, out = make_photos(tmp_path / "photos", 4), tmp_path / "given", tmp_path / "out"
    partial = np.zeros((16, 24), dtype=np.int32)
    partial[2:5, 3:9] = 77
    for name in ("0/00000", "0/00003"):
        write_id_png(given / f"{name}.png", partial)
    write_id_png(given / "1/00001.png", partial[:9])
    label_here(out, photos, partial=str(given))
    assert set(failed(out)) == {"1/00001.png", "2/00002.png"}
    assert "expected 24x16" in failed(out)["1/00001.png"] and "no such file" in failed(out)["2/00002.png"]
    for record in open_root(out):
        assert (record.read_map().ids[2:5, 3:9] == 77).all() and len(record.segments) > 1
    with pytest.raises(InputError, match="--partial: expected a folder"):
        label_here(tmp_path / "no", photos, partial=str(tmp_path / "nowhere"))


def test_photos_of_too_many_pixels_fail(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 2), tmp_path / "out"
    (photos / "0" / "large.png").write_bytes(photo_bytes(0, (100, 100)))
    assert label_here(out, photos, max_pixels=1000).failed == 1
    assert "--max-pixels" in failed(out)["0/large.png"]


def test_reasons_are_one_short_line(tmp_path: Path) -> None:
    assert loading.reason(InputError("a\nb " + "x" * 9999)).startswith("a b x")
    assert len(loading.reason(InputError("x" * 9999))) <= loading.REASON
    assert loading.reason(OSError(errno.EIO, "Input/output error", "f")) == "Input/output error"


def test_done_lines_survive_a_torn_one(tmp_path: Path) -> None:
    (tmp_path / "done.jsonl").write_bytes(b'{"shard": 3, "photos": 4, "failed": 0}\n{"shard": 5')
    lines = DoneLines(tmp_path).read()
    assert set(lines.shards) == {3}
    assert (tmp_path / "done.jsonl").read_bytes().endswith(b"}\n")


def test_progress_counts_a_shard_that_begins_anew_once() -> None:
    states = []
    progress = Progress(10, [], None, states.append)
    progress.batch(0, 3, [])
    progress.forget(0)
    progress.batch(0, 2, [{"file": "a", "error": "b"}])
    state = progress.state
    assert (state.photos, state.failed, state.total) == (2, 1, 10) and state.left is not None
    assert [one.photos for one in states] == [3, 2]


def test_the_segmenter_gets_whole_batches_in_the_plans_order(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(CheapSegmenter):
        def __call__(self, images: list[Photo], partials, seeds, captions=None) -> list[PanopticMap]:  # type: ignore[no-untyped-def,override]
            sizes.append(len(images))
            return super().__call__(images, partials, seeds)

    photos = make_photos(tmp_path / "photos", 10)
    label_here(tmp_path / "out", photos, engine=HereEngine(Counting()))
    assert sizes == [2, 2, 2, 2, 2]
