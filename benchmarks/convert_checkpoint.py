"""Memory and time of `ldmseg convert-checkpoint` on a file of the released model's size, with random weights.

    python benchmarks/convert_checkpoint.py

Needs about 9 GB of disk in the temporary folder. Memory is what the process holds at its peak, in shares of the file: all of it
(`resident`, in which pages of the mapped file count, though the system may drop them at any time), and what is its own (`own`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _results import write_result
from diffusers import AutoencoderKL
from torch import nn

from ldmseg.models.denoiser import build_denoiser
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.official.names import autoencoder_origin

CONVERT = """
import json, sys, threading, time
from pathlib import Path
from ldmseg.cli import main
import ldmseg.models.official, ldmseg.pipeline

def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon"))}

own, ended = [], threading.Event()
def watch():
    while not ended.wait(0.02):
        own.append(memory()["RssAnon"])

program = memory()["VmRSS"]
watcher = threading.Thread(target=watch)
watcher.start()
wall, cpu = time.perf_counter(), time.process_time()
code = main(["convert-checkpoint", *sys.argv[1:], "--json"])
figures = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "program_bytes": program}
ended.set()
watcher.join()
figures |= {"resident_bytes": memory()["VmHWM"], "own_bytes": max(own)}  # getrusage would count the parent's peak
print(json.dumps(figures), file=sys.stderr)
sys.exit(code)
"""


def write_checkpoint(path: Path) -> None:
    """The layout of the release: the UNet in single precision, the image encoder in half."""
    with torch.device("meta"):
        unet = build_denoiser("sd-v1", self_condition=True)
        levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(**levels, block_out_channels=(128, 256, 512, 512), layers_per_block=2)
        vae.decoder = nn.Identity()
        autoencoder = MaskAutoencoder()
    semseg = {autoencoder_origin(name): value for name, value in random_weights(autoencoder).items()}
    entries = {
        "unet": random_weights(unet),
        "vae_image": {key: value.half() for key, value in random_weights(vae).items()},
        "vae_semseg": semseg,
        "step": 0,
        "epoch": 0,
    }
    torch.save({key: named(value) if isinstance(value, dict) else value for key, value in entries.items()}, path)


def random_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: torch.empty(value.shape).uniform_(-0.02, 0.02) for key, value in model.state_dict().items()}


def named(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


def convert(path: Path, dtype: str) -> dict[str, Any]:
    """In a process of its own, so that nothing else is in its memory."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        arguments = [str(path), "-o", str(Path(folder) / "model"), "--dtype", dtype]
        done = subprocess.run([sys.executable, "-c", CONVERT, *arguments], capture_output=True, text=True, check=True)
        written = sum(file.stat().st_size for file in (Path(folder) / "model").rglob("*") if file.is_file())
    figures = {**json.loads(done.stderr.splitlines()[-1]), "written_bytes": written}
    size = path.stat().st_size
    shares = {f"{kind}_of_file": figures[f"{kind}_bytes"] / size for kind in ("resident", "own")}
    return {**{key: round(value, 2) for key, value in figures.items()}, **{key: round(value, 3) for key, value in shares.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written for the time being")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "model.pt"
        write_checkpoint(path)
        figures = {"file_bytes": path.stat().st_size, **{dtype: convert(path, dtype) for dtype in ("fp32", "fp16")}}
    print(json.dumps(figures, indent=2))
    write_result("convert_checkpoint", figures, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
