"""Archives for tests: photos, an engine in the test's own process, and what a run left."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from cheap import CheapSegmenter
from PIL import Image

from ldmseg.labelling.archive.job import STATE, ShardDone
from ldmseg.labelling.archive.plan import Shard
from ldmseg.labelling.archive.progress import Progress
from ldmseg.labelling.archive.run import Report, Request, label_archive
from ldmseg.labelling.archive.shard import Labeller, label_shard
from ldmseg.labelling.archive.speed import Division
from ldmseg.labelling.archive.work import Work


def photo_bytes(seed: int, size: tuple[int, int] = (24, 16), format: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    data = BytesIO()
    Image.fromarray(pixels).save(data, format=format)
    return data.getvalue()


def make_photos(folder: Path, count: int, first: int = 0) -> Path:
    for number in range(first, first + count):
        path = folder / f"{number % 3}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo_bytes(number))
    return folder


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    return path


class HereEngine:
    """Labels the shards one after another in this process.

    Args:
        after: called with the number of shards that are done.
    """

    def __init__(self, segmenter: Labeller | None = None, after: Callable[[int], None] = lambda count: None) -> None:
        self._segmenter, self._after = segmenter or CheapSegmenter(), after

    def run(self, work: Work, shards: Sequence[Shard], progress: Progress, on_done: Callable[[ShardDone], None]) -> None:
        for count, shard in enumerate(shards, start=1):

            def on_batch(photos: int, failures: list[dict[str, str]], number: int = shard.number) -> None:
                progress.batch(number, photos, failures)

            done = label_shard(work, shard, self._segmenter, on_batch)
            on_done(done)
            progress.done(done)
            self._after(count)


def label_here(output: Path, *sources: Path | str, engine: HereEngine | None = None, **asked: Any) -> Report:
    """`label_archive` without another process; three shards of ten photos."""
    request = Request(tuple(str(one) for one in sources), output, **{"shard_size": 4, "threads": 1, **asked})

    def make_engine(division: Division) -> HereEngine:
        return engine or HereEngine()

    return label_archive(request, [CheapSegmenter], batch_size=2, make_engine=make_engine)


def results(output: Path) -> dict[str, str]:
    """Relative path -> hash, of everything but the run's own state."""
    files = (path for path in output.rglob("*") if path.is_file() and STATE not in path.relative_to(output).parts)
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def failed(output: Path) -> dict[str, str]:
    """File -> reason."""
    path = output / "failed.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    assert len({line["file"] for line in lines}) == len(lines)
    return {line["file"]: line["error"] for line in lines}
