"""Pretrained weights from a folder or the Hub, loaded strictly: every key is accounted for, or the user hears which is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffusers import ConfigMixin, ModelMixin

from ldmseg.errors import InputError

Model = TypeVar("Model", bound=ModelMixin)

LISTED = 8
"""How many keys an error message lists."""


@dataclass(frozen=True)
class PretrainedLocation:
    """Where diffusers finds one network: a folder or a Hub id, and the subfolder in it ("" for the folder itself)."""

    root: str
    subfolder: str = ""

    def __str__(self) -> str:
        return f"{self.root}/{self.subfolder}" if self.subfolder else self.root


def locate(source: str | Path, subfolder: str, argument: str = "source", names: tuple[str, ...] = ()) -> PretrainedLocation:
    """Tell a pipeline's folder from a network's own folder and from a Hub id.

    Args:
        source: a folder with `subfolder/config.json`, a folder with `config.json`, or an id "owner/name".
        subfolder: what the network is called inside a pipeline ("unet", "vae").
        argument: the user's name for `source`, for the error.
        names: other values that the caller understands, for the error.

    Raises:
        InputError: it is none of these.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        for inside in (subfolder, ""):
            if (folder / inside / "config.json").is_file():
                return PretrainedLocation(str(folder), inside)
        raise InputError(f"{argument}: expected {subfolder}/config.json or config.json in {folder}, got neither")
    text = str(source)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")) and not text.endswith("/"):
        return PretrainedLocation(text, subfolder)
    also = f"one of {', '.join(names)}, " if names else ""
    raise InputError(f"{argument}: expected {also}an existing folder or a Hub id owner/name, got {text!r}")


def read_config(model_class: type[ConfigMixin], where: PretrainedLocation) -> dict[str, Any]:
    """The saved config as a dict.

    Raises:
        InputError: it cannot be read or fetched.
    """
    try:
        return dict(model_class.load_config(where.root, subfolder=where.subfolder))
    except Exception as error:  # the Hub's client raises many unrelated types
        raise InputError(f"source: expected a readable config.json at {where}, got {one_line(error)}") from error


def load_strictly(model_class: type[Model], where: PretrainedLocation, **config: Any) -> Model:
    """`model_class.from_pretrained`, with an error instead of a warning when weights are missing or left over.

    Args:
        config: values that replace the saved config's.

    Raises:
        InputError: nothing could be loaded, or some keys are missing, unexpected or of another shape; they are listed.
    """
    try:
        model, info = model_class.from_pretrained(where.root, subfolder=where.subfolder, output_loading_info=True, **config)
    except Exception as error:
        raise InputError(f"source: expected weights of {model_class.__name__} at {where}, got {one_line(error)}") from error
    for kind in ("missing", "unexpected", "mismatched"):
        keys = sorted(str(key) for key in info[f"{kind}_keys"])
        if keys:
            rest = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
            raise InputError(
                f"source: expected exactly the weights of {model_class.__name__} at {where}, "
                f"got {len(keys)} {kind} keys: {', '.join(keys[:LISTED])}{rest}"
            )
    return model


def one_line(error: Exception) -> str:
    """The error's type and the first 200 characters of its message, without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
