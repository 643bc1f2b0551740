"""Runs of several processes that are killed at any instant: nothing is lost, half written, different or done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from archives import failed, label_here, make_photos, results
from broken_files import broken_files

from ldmseg.formats.coco_panoptic import open_root
from ldmseg.formats.id_png import read_id_png
from ldmseg.labelling.archive.job import STATE, DoneLines
from ldmseg.labelling.archive.plan import read_shard, shards_of
from ldmseg.labelling.photos import photo_seed
from ldmseg.locking import locked

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
KILLS = 50


def start(**asked: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "label_cheaply.py"), json.dumps(asked, default=str)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(**asked: Any) -> dict[str, Any]:
    out, err = (process := start(**asked)).communicate()
    assert process.returncode == 0 and err == "", err
    return json.loads(out)


def seeds_of_done(out: Path, shard_size: int) -> set[str]:
    """What the segmenter notes of each photo in a shard that is done."""
    state = out / STATE
    done = DoneLines(state).read().shards if (state / "plan.jsonl").exists() else {}
    shards = shards_of(state, shard_size) if done else []
    items = (item for shard in shards if shard.number in done for item in read_shard(state, shard))
    return {str(photo_seed(0, Path(item.entry.name).stem)) for item in items}


def kill(process: subprocess.Popen[str], how: str) -> None:
    try:
        if how == "worker":
            children = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
            for child in children[:1]:
                child.kill()
            process.kill()
        elif how == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except psutil.NoSuchProcess:
        process.kill()
    process.communicate()


def test_killed_at_any_instant(tmp_path: Path) -> None:
    photos, out, log = make_photos(tmp_path / "photos", 400), tmp_path / "out", tmp_path / "log"
    label_here(tmp_path / "whole", photos)
    asked = {"sources": [photos], "output": out, "shard_size": 4, "workers": 2, "threads": 1, "batch_size": 2}
    asked |= {"segmenter": {"seconds": 0.02, "log": log}}
    log.touch()
    process, to_first = start(**asked), 0.0  # seconds until a shard is done, which depends on the machine
    while not (out / STATE / "done.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
        to_first += 0.01
    kill(process, "parent")
    instants, kills, promised = random.Random(0), 1, list[tuple[int, set[str]]]()
    while kills < KILLS:
        process = start(**asked)
        time.sleep(instants.uniform(0, 1.5 * to_first))
        kill(process, instants.choice(["parent", "worker", "all"]))
        kills += 1
        promised.append((len(log.read_text().splitlines()), seeds_of_done(out, 4)))
        for png in (out / "panoptic").rglob("*.png"):
            assert read_id_png(png).shape == (16, 24)
    report = finish(**asked)
    assert (report["photos"], report["failed"]) == (400, 0)
    assert results(out) == results(tmp_path / "whole")
    assert {path.name for path in (out / STATE).iterdir()} == {"job.json", "plan.jsonl", "done.jsonl", "segments"}
    lines = log.read_text().splitlines()
    assert any(done for _, done in promised)
    for count, done in promised:
        assert not done & set(lines[count:]), "a photo of a shard that was done was labelled again"


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 30), tmp_path / "out"
    label_here(tmp_path / "whole", photos)
    asked = {"sources": [photos], "output": out, "shard_size": 4, "workers": 2, "threads": 1, "batch_size": 2}
    process = start(**asked, segmenter={"seconds": 0.1})
    while not (out / STATE / "done.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    children = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(children) == 2
    children[0].kill()
    text, err = process.communicate()
    assert process.returncode == 0 and err == "" and json.loads(text)["failed"] == 0
    assert results(out) == results(tmp_path / "whole")


def test_a_worker_that_dies_again_and_again_ends_the_run_in_one_line(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 8), tmp_path / "out"
    asked = {"sources": [photos], "output": out, "shard_size": 4, "workers": 1, "threads": 1}
    _, err = (process := start(**asked, segmenter={"die": [3, str(tmp_path / "nowhere" / "flag")]})).communicate()
    assert process.returncode == 2 and err.count("\n") == 1
    assert "killed by signal 9" in err and "3 times" in err and "--workers" in err
    assert finish(**asked)["photos"] == 8


def test_the_second_run_on_a_folder_is_refused(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos", 40), tmp_path / "out"
    asked = {"sources": [photos], "output": out, "shard_size": 4, "workers": 1, "threads": 1}
    first = start(**asked, segmenter={"seconds": 0.2})
    while not (out / STATE / "job.json").exists() and first.poll() is None:
        time.sleep(0.01)
    _, err = (second := start(**asked)).communicate()
    assert second.returncode == 2 and err.count("\n") == 1 and "in use by process" in err
    kill(first, "parent")
    with locked(out):  # the lock of a killed process does not last
        pass
    assert finish(**asked)["photos"] == 40


@pytest.mark.long
def test_ten_thousand_photos_of_which_one_in_a_hundred_is_broken(tmp_path: Path) -> None:
    photos, ways = tmp_path / "photos", broken_files()
    make_photos(photos, 50)
    for number in range(50, 10_000):
        target = photos / f"{number % 3}" / f"{number:05d}.png"
        os.link(photos / f"{number % 50 % 3}" / f"{number % 50:05d}.png", target)
    for number in range(100):
        victim = photos / f"{(100 * number + 7) % 3}" / f"{100 * number + 7:05d}.png"
        victim.unlink()
        victim.write_bytes(ways[number % len(ways)][1])
    report = finish(sources=[photos], output=tmp_path / "out", workers=2, threads=1, batch_size=32)
    assert report == {"photos": 10_000, "failed": 100, "before": 0}
    reasons = failed(tmp_path / "out")
    assert len(reasons) == 100 and all(reason and "\n" not in reason for reason in reasons.values())
    assert len(open_root(tmp_path / "out")) == len(list((tmp_path / "out" / "panoptic").rglob("*.png"))) == 9_900
