"""Whether the packages in a folder hold everything that an installation needs; `make package` runs it."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

NEEDED = (
    "ldmseg/py.typed",
    "ldmseg/presets/finetune.yaml",
    "ldmseg/weights/default/model_index.json",
    *(f"ldmseg/weights/default/{part}/config.json" for part in ("image_encoder", "mask_autoencoder", "unet")),
    *(f"ldmseg/weights/default/{part}/diffusion_pytorch_model.safetensors" for part in ("image_encoder", "mask_autoencoder", "unet")),
)


def missing(folder: Path) -> list[str]:
    """What the one wheel and the one source archive in a folder lack."""
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    with tarfile.open(archive) as opened_archive:
        sources = {name.partition("/")[2] for name in opened_archive.getnames()}
    return [f"{wheel.name}: {name}" for name in NEEDED if name not in inside] + [
        f"{archive.name}: src/{name}" for name in NEEDED if f"src/{name}" not in sources
    ]


if __name__ == "__main__":
    found = missing(Path(sys.argv[1]))
    sys.exit("\n".join(["missing:", *found]) if found else 0)
