"""Where weights come from: the bundled model, a folder, or the Hub."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ldmseg.errors import InputError
from ldmseg.models.mask_autoencoder import MaskAutoencoder

BUNDLED = "default"


def model_folder(source: str | Path) -> str:
    """`default` -> the bundled pipeline's folder; anything else is returned as it is."""
    if str(source) != BUNDLED:
        return str(source)
    folder = Path(str(resources.files("ldmseg") / "weights" / BUNDLED))
    if not folder.is_dir():
        raise InputError(f"--model: this installation holds no bundled model ({folder.name!r} is missing); name a folder or a Hub id")
    return str(folder)


def load_mask_autoencoder(source: str | Path) -> MaskAutoencoder:
    """The mask autoencoder of a pipeline folder, of a folder of its own, or of a Hub id.

    Raises:
        InputError: nothing usable is there.
    """
    folder = model_folder(source)
    subfolder = None if (Path(folder) / "config.json").is_file() else "mask_autoencoder"
    try:
        return MaskAutoencoder.from_pretrained(folder, subfolder=subfolder, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"autoencoder: expected a mask autoencoder's folder or Hub id, got {str(source)!r} ({reason})") from None
