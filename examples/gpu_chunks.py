"""Train on a machine that is there for minutes at a time: go on from a packed run, train until the time is up, and pack it again.

    python examples/gpu_chunks.py --config photos-256 --packed photos-256.tar --minutes 9 --set data.workers=8

The packed file holds the run folder with its newest checkpoint and, at the end, the pipeline. Call it again with the file to go on; what it
prints says how far it is. What was trained since the newest checkpoint is lost when the time is up, so `checkpoint.every` should be some
seconds' worth of steps. Data and weights that the configuration names must be there: carry them along.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

from ldmseg.config import load_config
from ldmseg.errors import InputError
from ldmseg.training.checkpoint import newest_checkpoint
from ldmseg.training.loop import train
from ldmseg.training.stages.autoencoder import AutoencoderStage
from ldmseg.training.stages.diffusion import DiffusionStage


class TimeIsUpError(Exception):
    """Raised between two steps."""


def unpack(packed: Path, run: Path) -> None:
    """The run folder as it was packed; nothing where there is no file yet."""
    if packed.is_file():
        with tarfile.open(packed) as archive:
            archive.extractall(run, filter="data")


def pack(run: Path, packed: Path) -> None:
    """The run folder but for all checkpoints except the newest, written beside and renamed, so that a packed file is a whole one."""
    newest = newest_checkpoint(run)
    unfinished = packed.with_name(f".{packed.name}.tmp")
    with tarfile.open(unfinished, "w") as archive:
        for path in sorted(run.rglob("*")):
            inside = path.relative_to(run)
            old = inside.parts[0] == "checkpoints" and (newest is None or newest not in (path, *path.parents))
            if path.is_file() and not old:
                archive.add(path, inside)
    unfinished.replace(packed)


def train_until(deadline: float, config_source: str, overrides: list[str], run: Path) -> tuple[int, int]:
    """Train until it is finished, or `deadline` (of `time.monotonic`) has passed and there is a new checkpoint.

    Returns:
        The last logged step, and how many there are in all.
    """
    config = load_config(config_source, overrides)
    stage = AutoencoderStage(config) if config.stage == "autoencoder" else DiffusionStage(config)
    reached, begun_with = 0, newest_checkpoint(run)

    def on_step(step: int, figures: dict[str, float]) -> None:
        nonlocal reached
        reached = step
        print(f"step {step} of {config.optim.steps}: loss {figures['loss']:.4f}", file=sys.stderr, flush=True)
        further = newest_checkpoint(run) != begun_with  # else the chunk would have been in vain, and so would the next one
        if time.monotonic() > deadline and further and step < config.optim.steps:
            raise TimeIsUpError

    with suppress(TimeIsUpError):
        train(stage, config, run, on_step)
    return reached, config.optim.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a preset's name or a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a key; may be repeated")
    parser.add_argument("--packed", type=Path, required=True, help="the run's file, read if it is there and written at the end")
    parser.add_argument("--run", type=Path, help="where the run is unpacked; default: beside the file, under its name")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no further step is begun")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    logging.basicConfig(level=logging.WARNING)
    run = arguments.run or arguments.packed.with_suffix("")
    try:
        unpack(arguments.packed, run)
        reached, steps = train_until(deadline, arguments.config, arguments.set, run)
    except InputError as error:
        parser.error(str(error))
    pack(run, arguments.packed)
    newest = newest_checkpoint(run)
    kept = 0 if newest is None else int(newest.name.removeprefix("step-"))
    print(json.dumps({"step": reached, "kept": kept, "steps": steps, "finished": reached == steps, "packed": str(arguments.packed)}))


if __name__ == "__main__":
    main()
