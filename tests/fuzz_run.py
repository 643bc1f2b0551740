"""Fuzzing in a process of its own: `python fuzz_run.py FOLDER SEED FIRST COUNT [TARGET]` tells of every problem in a line of JSON.

Input `number` of a seed is always the same, so that a problem is found again with COUNT 1.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import fuzz_targets
import numpy
import torch
from fuzz_guard import Forbidden, Guard
from fuzz_targets import TARGETS, Target, check_refusal

from ldmseg.errors import InputError


def main(folder: Path, seed: int, first: int, count: int, only: str | None = None) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    (folder / "scratch").mkdir(exist_ok=True)
    os.chdir(folder / "scratch")
    sys.path.insert(0, "")  # as `python -m ldmseg` has it
    targets: dict[str, Target] = {}
    guard = Guard(folder / "scratch", folder / "told.txt")
    ends: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for number in range(first, first + count):
        rng = random.Random(f"{seed}/{number}")
        name = only or rng.choices(list(TARGETS), [share for share, _ in TARGETS.values()])[0]
        if name not in targets:
            targets[name] = TARGETS[name][1](folder / "scratch" / f"{name}-{number}")
        began = time.process_time()
        targets[name].damage(rng)
        end = _read(guard, targets[name], f"{name} {number}")
        seconds[name] += time.process_time() - began
        ends[f"{name} {end}"] += 1
    assert not (folder / "scratch" / "ran").exists()
    print(json.dumps({"ends": ends, "seconds": {name: round(value, 2) for name, value in seconds.items()}}), flush=True)


def _read(guard: Guard, target: Target, told: str) -> str:
    try:
        with guard.watching(told):
            target.read()
        return "read"
    except InputError as error:
        try:
            check_refusal(error)
            return "refused"
        except AssertionError:
            problem = traceback.format_exc()
    except (Exception, Forbidden):
        problem = traceback.format_exc()
    print(json.dumps({"input": told, "problem": problem[-3000:]}), flush=True)
    return "failed"


if __name__ == "__main__":
    assert fuzz_targets and numpy
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:6])
