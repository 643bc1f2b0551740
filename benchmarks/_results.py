"""How every benchmark saves its figures: with the command, the commit and the machine that gave them."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ldmseg.atomic import write_json

RESULTS = Path(__file__).resolve().parent / "results"


def write_result(name: str, figures: dict[str, Any], command: str) -> Path:
    """Save `figures` as `benchmarks/results/<name>.json` beside what they were measured with; the path is returned."""
    record = {
        "benchmark": name,
        "command": command,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "figures": figures,
    }
    return write_json(RESULTS / f"{name}.json", record, indent=2)


def command_line() -> str:
    """How this benchmark was called, for its result."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def commit() -> dict[str, Any]:
    """Short hash of HEAD, and whether tracked source or benchmark files differ from it (results do not count)."""
    status = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
    return {"hash": _git("rev-parse", "--short", "HEAD") or None, "dirty": bool(status)}


def machine() -> dict[str, Any]:
    """The processor and the versions that matter; torch's (and the accelerator's) only where a benchmark imported it."""
    found: dict[str, Any] = {"cpu": _cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.__version__
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=RESULTS.parents[1], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
