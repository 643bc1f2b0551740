"""Where weights come from: the bundled model, a folder, or the Hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ldmseg.errors import InputError, quoted
from ldmseg.models.manifest import check_manifest
from ldmseg.models.mask_autoencoder import MaskAutoencoder
from ldmseg.models.pretrained import is_hub_id, only_shapes
from ldmseg.models.vae_mask_autoencoder import VaeMaskAutoencoder

BUNDLED = "default"
LIBRARIES = ("ldmseg", "diffusers", "transformers")
"""Where the parts of a pipeline may come from."""


_UNUSABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError, ArithmeticError, AssertionError)
"""What libraries raise on configurations and weights that make no sense."""


def model_folder(source: str | PathLike[str]) -> str:
    """`default` -> the bundled pipeline's folder; anything else is returned as it is.

    Raises:
        InputError: the bundled model is not installed.
    """
    if str(source) != BUNDLED:
        return str(source)
    folder = Path(str(resources.files("ldmseg") / "weights" / BUNDLED))
    if not (folder / "model_index.json").is_file():
        raise InputError("--model: this installation holds no bundled model; name a folder or a Hub id")
    return str(folder)


def pipeline_folder(source: str | PathLike[str]) -> str:
    """The folder or Hub id of a pipeline.

    Raises:
        InputError: it is neither, so that the Hub need not be asked for a folder that is not there.
    """
    folder = model_folder(source)
    if not Path(folder).expanduser().is_dir() and not is_hub_id(folder):
        raise InputError(f"--model: expected '{BUNDLED}', a pipeline's folder, or a Hub id owner/name, got {quoted(str(source))}")
    return folder


def check_components(index: Mapping[str, Any], folder: str | PathLike[str]) -> None:
    """That loading a pipeline runs no code but that of installed libraries, whatever its `model_index.json` names.

    A module that this process has imported itself may be named: parts of one's own are saved so.

    Raises:
        InputError: the class of the pipeline or of a part is of another module, or its code lies in the folder.
    """
    for name, value in index.items():
        if name == "_class_name" and not isinstance(value, str):
            raise InputError(f"--model: model_index.json: {name}: expected the name of a class, got {quoted(value)}")
        if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(library := value[0], str):
            known = library in LIBRARIES or library in sys.modules
            if not known or (Path(folder) / name / f"{library}.py").is_file():
                raise InputError(
                    f"--model: model_index.json: {quoted(name)}: expected a class of {', '.join(LIBRARIES)}, got one of {quoted(library)}, "
                    "whose code is not run"
                )


@contextmanager
def loading_errors(argument: str, expected: str, got: str) -> Iterator[None]:
    """Turn what diffusers, safetensors and the Hub raise on unusable weights into one line."""
    try:
        yield
    except InputError:
        raise
    except (*_UNUSABLE, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{argument}: expected {expected}, got {quoted(got)} ({type(error).__name__}: {reason})") from error


def load_mask_autoencoder(source: str | Path) -> MaskAutoencoder:
    """The mask autoencoder of a pipeline folder, of a folder of its own, or of a Hub id.

    Raises:
        InputError: nothing usable is there.
    """
    folder = model_folder(source)
    subfolder = None if (Path(folder) / "config.json").is_file() else "mask_autoencoder"
    with loading_errors("autoencoder", "a mask autoencoder's folder or Hub id", str(source)):
        config = MaskAutoencoder.load_config(folder, subfolder=subfolder, local_files_only=only_shapes())
        name = config.get("_class_name")
        kinds: dict[str, type[MaskAutoencoder]] = {kind.__name__: kind for kind in (MaskAutoencoder, VaeMaskAutoencoder)}
        if name not in kinds:
            raise InputError(f"autoencoder: expected one of {', '.join(kinds)} in {str(source)!r}, got {name or 'no class name'}")
        if only_shapes():
            return kinds[name].from_config(config)
        check_manifest(folder, below=subfolder or "", argument="autoencoder")
        return kinds[name].from_pretrained(folder, subfolder=subfolder, low_cpu_mem_usage=False)
