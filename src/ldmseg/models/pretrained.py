"""Pretrained weights from a folder or the Hub, loaded strictly: every key is accounted for, or the user hears which is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ldmseg.errors import InputError

Model = TypeVar("Model", bound=ModelMixin)

LISTED = 8
"""How many keys an error message lists."""


@dataclass(frozen=True)
class Pretrained:
    """One saved network: the folder or Hub id, the subfolder in it ("" for the folder itself), and the config that lies there."""

    root: str
    subfolder: str
    config: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.root}/{self.subfolder}" if self.subfolder else self.root

    @property
    def class_name(self) -> str:
        """The diffusers class that saved it; "" if the config does not tell."""
        return str(self.config.get("_class_name", ""))


def find_pretrained(source: str | Path, subfolders: tuple[str, ...], names: tuple[str, ...] = ()) -> Pretrained:
    """Find one network in a pipeline's folder, in a folder of its own, or on the Hub, and read its config.

    Args:
        source: a folder with `config.json` in it or in one of `subfolders`, or a Hub id "owner/name".
        subfolders: what the network may be called inside a pipeline ("unet", "vae"); the first that exists is taken.
        names: other values that the caller understands, for the error.

    Raises:
        InputError: nothing of that kind is there, or its config cannot be read.
    """
    folder, text = Path(source).expanduser(), str(source)
    candidates = (*subfolders, "")
    if folder.is_dir():
        present = [inside for inside in candidates if (folder / inside / "config.json").is_file()]
        if not present:
            listed = " or ".join(f"{inside}/config.json".lstrip("/") for inside in candidates)
            raise InputError(f"source: expected {listed} in {folder}, got a folder without")
        return Pretrained(str(folder), present[0], _read_config(str(folder), present[0]))
    if text.count("/") != 1 or text.startswith((".", "/", "~")) or text.endswith("/"):
        also = f"one of {', '.join(names)}, " if names else ""
        raise InputError(f"source: expected {also}an existing folder or a Hub id owner/name, got {text!r}")
    for inside in candidates[:-1]:
        try:
            return Pretrained(text, inside, _read_config(text, inside))
        except InputError as error:
            reason = error.__cause__.__context__ if error.__cause__ else None
            if not isinstance(reason, EntryNotFoundError) or isinstance(reason, LocalEntryNotFoundError):
                raise  # unreachable, not merely absent from this subfolder
    return Pretrained(text, "", _read_config(text, ""))


def _read_config(root: str, subfolder: str) -> dict[str, Any]:
    try:
        return dict(UNet2DConditionModel.load_config(root, subfolder=subfolder))  # reads the file as it is, whatever the class
    except Exception as error:  # the Hub's client raises many unrelated types
        where = f"{root}/{subfolder}".rstrip("/")
        raise InputError(f"source: expected a readable config.json in {where}, got {_one_line(error)}") from error


def load_strictly(model_class: type[Model], saved: Pretrained, **config: Any) -> Model:
    """`model_class.from_pretrained`, with an error instead of a warning when weights are missing or left over.

    Args:
        model_class: what to load; it may differ from the class that saved the weights.
        saved: where they are.
        config: values that replace the saved config's.

    Raises:
        InputError: nothing could be loaded, or some keys are missing, unexpected or of another shape; they are listed.
    """
    try:
        with _warnings_off():
            loaded: Any = model_class.from_pretrained(saved.root, subfolder=saved.subfolder, output_loading_info=True, **config)
    except Exception as error:
        raise InputError(f"source: expected weights of {model_class.__name__} in {saved}, got {_one_line(error)}") from error
    model, info = loaded
    for kind in ("missing", "unexpected", "mismatched"):
        keys = sorted(str(key) for key in info[f"{kind}_keys"])
        if keys:
            rest = f" and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
            raise InputError(
                f"source: expected exactly the weights of {model_class.__name__} in {saved}, "
                f"got {len(keys)} {kind} keys: {', '.join(keys[:LISTED])}{rest}"
            )
    return model


@contextmanager
def _warnings_off() -> Iterator[None]:
    """diffusers warns at length of what becomes an error here."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
