"""Ten thousand damaged files: each is read, or refused in one line. `LDMSEG_FUZZ` says how many (10,000), `LDMSEG_FUZZ_SEED` which (0).

A problem names its target and number; `python tests/fuzz_run.py FOLDER SEED NUMBER 1` makes it again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_guard import SECONDS
from fuzz_mutations import damaged_json, damaged_png, damaged_safetensors, png_chunks, png_of
from warm import ENVIRONMENT

INPUTS = int(os.environ.get("LDMSEG_FUZZ", "10000"))
SEED = int(os.environ.get("LDMSEG_FUZZ_SEED", "0"))
PARTS = 4
"""Processes, one after the other: one that is ended for a hang costs a part and not the whole."""

GUARDED = """
import sys
from pathlib import Path
import fuzz_guard
from fuzz_guard import Forbidden, Guard
fuzz_guard.MEMORY = 100_000_000
folder = Path(sys.argv[1])
guard = Guard(folder / "scratch", folder / "told.txt")
def tried(what):
    try:
        with guard.watching("probe"):
            exec(compile(what, __file__ if "exec" not in what else str(folder / "evil.py"), "exec"), {"Path": Path, "folder": folder})
        print("allowed")
    except Forbidden as error:
        print("forbidden", error)
for what in sys.argv[2:]:
    tried(what)
"""


def _run(folder: Path, program: list[str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *program], capture_output=True, text=True, env=environment, cwd=folder, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_read_or_refused_in_one_line(part: int, tmp_path: Path) -> None:
    first, count = part * INPUTS // PARTS, (part + 1) * INPUTS // PARTS - part * INPUTS // PARTS
    done = _run(tmp_path, [str(Path(__file__).with_name("fuzz_run.py")), str(tmp_path), str(SEED), str(first), str(count)])
    told = (tmp_path / "told.txt").read_text(errors="replace")
    assert done.returncode != -signal.SIGPROF, f"more than {SECONDS} s: {told[:3000]}"
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{told[:3000]}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    problems = [f"{line['input']}: {line['problem']}" for line in lines if "problem" in line]
    assert not problems, f"{len(problems)} problems, the first: {problems[0]}"
    ends = lines[-1]["ends"]
    assert sum(ends.values()) == count
    if count >= 1000:  # damage that nothing survives, or everything, tests little
        for name in ("photos", "labels", "coco", "tools", "configs", "runs", "projects"):
            assert ends.get(f"{name} read", 0) > 5 and ends.get(f"{name} refused", 0) > 5, ends


def test_the_guard_forbids_what_a_reader_may_not_do(tmp_path: Path) -> None:
    """The fuzzer's own check can fail: each of these is stopped, and reading what was given is not."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "given.txt").touch()
    inside, outside = tmp_path / "scratch" / "given.txt", tmp_path / "outside.txt"
    outside.touch()
    tries = {
        f"open({str(inside)!r}).read()": "allowed",
        f"open({str(outside)!r}).read()": "forbidden",
        f"Path({str(outside)!r}).unlink()": "forbidden",
        f"import os; os.rename({str(inside)!r}, {str(outside)!r})": "forbidden",
        f"import os; os.listdir({str(tmp_path)!r})": "forbidden",
        "import subprocess; subprocess.run(['true'])": "forbidden",
        "import os; os.system('true')": "forbidden",
        "import socket; socket.create_connection(('127.0.0.1', 1))": "forbidden",
        "exec('1')": "forbidden",
        "x = bytearray(120_000_000)": "forbidden took",
    }
    done = _run(tmp_path, ["-c", GUARDED.replace("__file__", repr(os.__file__)), str(tmp_path), *tries])
    assert done.returncode == 0, done.stderr
    found = done.stdout.splitlines()
    wrong = [f"{what}: {line}" for (what, expected), line in zip(tries.items(), found, strict=True) if not line.startswith(expected)]
    assert not wrong, wrong
    assert outside.exists()


def test_damage_is_the_same_each_time_and_keeps_checksums() -> None:
    document = {"a": [1, 2, {"b": "c"}], "d": None}
    assert damaged_json(document, random.Random(3)) == damaged_json(document, random.Random(3))
    assert document == {"a": [1, 2, {"b": "c"}], "d": None}
    chunks = [(b"IHDR", bytes(13)), (b"IDAT", b"x"), (b"IEND", b"")]
    assert png_chunks(png_of(chunks)) == chunks
    damaged = damaged_png(png_of(chunks), random.Random(0))
    assert damaged != png_of(chunks) and png_of(png_chunks(damaged)) == damaged
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(4)
    assert all(damaged_safetensors(whole, random.Random(number)) for number in range(50))
