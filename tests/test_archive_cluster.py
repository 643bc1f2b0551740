"""The cluster's engine on a Ray of this machine. Ray is an extra of its own: `make ray` installs it and runs this."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from archives import failed, label_here, make_photos, results
from cheap import cheap

from ldmseg.errors import InputError
from ldmseg.labelling.archive.job import STATE, Job
from ldmseg.labelling.archive.plan import shards_of
from ldmseg.labelling.archive.work import Work

HERE = Path(__file__).resolve().parent


def test_an_actor_labels_a_shard_and_tells_why_it_cannot(tmp_path: Path) -> None:
    """Without Ray: the actor is a plain class."""
    from ldmseg.labelling.archive.cluster import ShardActor

    photos, out = make_photos(tmp_path / "photos", 10), tmp_path / "out"
    label_here(out, photos)
    before = results(out)
    job = Job.read(out / STATE)
    assert job is not None
    shard = shards_of(out / STATE, 4)[2]
    (out / "panoptic" / "2" / "00008.png").unlink()
    batch = {"number": [shard.number], "count": [shard.count], "offset": [shard.offset]}
    row = ShardActor(cheap(), Work(out, job))(batch)
    assert row == {"shard": [2], "photos": [2], "failed": [0], "stop": [""], "crash": [""]}
    assert results(out) == before

    def refuses() -> None:
        raise InputError("--model: expected another")

    row = ShardActor(refuses, Work(out, job))(batch)  # type: ignore[arg-type]
    assert row["stop"] == ["--model: expected another"] and row["crash"] == [""]
    row = ShardActor(cheap(), Work(tmp_path / "nowhere", job))(batch)
    assert "nowhere" in row["stop"][0] and "No such file" in row["stop"][0]


@pytest.mark.slow
def test_ray_gives_the_same_files_though_an_actor_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="Ray (the extra `ray`) is not installed")
    photos, out = make_photos(tmp_path / "photos", 40), tmp_path / "out"
    (photos / "0" / "bad.jpg").write_text("x")
    label_here(tmp_path / "whole", photos)
    asked = {"sources": [str(photos)], "output": str(out), "shard_size": 4, "workers": 2, "threads": 1, "batch_size": 2, "ray": True}
    asked["segmenter"] = {"seconds": 0.05, "die": [7, str(tmp_path / "died")], "log": str(tmp_path / "log")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [sys.executable, str(HERE / "label_cheaply.py"), json.dumps(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"photos": 41, "failed": 1, "before": 0}
    assert (tmp_path / "died").exists(), "no actor was killed"
    assert len((tmp_path / "log").read_text().splitlines()) > 40  # the killed actor's shard was done anew
    assert results(out) == results(tmp_path / "whole") and set(failed(out)) == {"0/bad.jpg"}
