"""How every benchmark saves its figures: with the command, the commit and the machine that gave them."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ldmseg.atomic import write_json, write_text

if TYPE_CHECKING:
    from ldmseg import LDMSegPipeline

RESULTS = Path(__file__).resolve().parent / "results"


def write_result(name: str, figures: dict[str, Any], command: str, pipe: LDMSegPipeline | None = None) -> Path:
    """Save `figures` beside what they were measured with; the path is returned.

    The file is `benchmarks/results/<name>.json`, or `<name>.dirty.json`, which git ignores, where source or benchmarks differed from the
    commit when the benchmark began.

    Args:
        pipe: the model that was measured; its weights' hash and its configuration are saved too.
    """
    record = {
        "benchmark": name,
        "command": command,
        "commit": _BEGUN,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        **({} if pipe is None else {"model": model(pipe)}),
        "figures": figures,
    }
    return write_json(RESULTS / f"{name}{'.dirty' if _BEGUN['dirty'] else ''}.json", record, indent=2)


def read_result(name: str) -> dict[str, Any]:
    """The committed result of that name."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def of_an_earlier_model(result: dict[str, Any]) -> list[str]:
    """A sentence for a page, if the result is not of the bundled model as it is (that of `photos.json`)."""
    told, present = (one["model"]["weights_sha256"] for one in (result, read_result("photos")))
    return [] if told == present else ["", f"These figures are of an earlier bundled model (weights `{told[:8]}`)."]


def filled(page: str, name: str, text: str) -> str:
    """A page with `text` between its marks `<!-- NAME -->` and `<!-- /NAME -->`, which stay."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text.strip()}\n\n{end}{rest.split(end, 1)[1]}"


def fill(page: Path, name: str, text: str) -> None:
    """Write the figures of a result into a page, `filled`."""
    write_text(page, filled(page.read_text(encoding="utf-8"), name, text))


def model(pipe: LDMSegPipeline) -> dict[str, Any]:
    """What identifies a model: a hash of all its weights, and what its calls do by default."""
    digest = hashlib.sha256()
    for name, part in sorted(pipe.components.items()):
        for key, tensor in sorted(part.state_dict().items()) if isinstance(part, torch.nn.Module) else ():
            digest.update(f"{name}.{key}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    config = {key: pipe.config[key] for key in ("image_size", "id_policy", "inference")}
    return {"weights_sha256": digest.hexdigest(), **config}


def command_line() -> str:
    """How this benchmark was called, for its result."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def commit() -> dict[str, Any]:
    """Short hash of HEAD, and whether tracked source or benchmark files differ from it (results do not count)."""
    status = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
    return {"hash": _git("rev-parse", "--short", "HEAD") or None, "dirty": bool(status)}


def machine() -> dict[str, Any]:
    """The processor and the versions that matter"""
    found: dict[str, Any] = {"cpu": _cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
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


_BEGUN = commit()  # when the benchmark began: what it measures was imported then
