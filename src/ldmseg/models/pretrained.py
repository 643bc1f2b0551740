"""Pretrained weights from a folder or the Hub, loaded strictly: every key is accounted for, or the user hears which is not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ldmseg.errors import InputError, quoted
from ldmseg.models.manifest import check_manifest

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
        """The diffusers class that saved it; "" if the config has none."""
        return str(self.config.get("_class_name", ""))


def find_pretrained(source: str | Path, subfolders: tuple[str, ...], names: tuple[str, ...] = ()) -> Pretrained:
    """Find one network in a pipeline's folder, in a folder of its own, or on the Hub, and read its config.

    Where only shapes are wanted (`load_strictly`), nothing is downloaded: of a Hub id, the copy on this machine serves or none.

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
    if not is_hub_id(text):
        also = f"one of {', '.join(names)}, " if names else ""
        raise InputError(f"source: expected {also}an existing folder or a Hub id owner/name, got {quoted(text)}")
    for inside in candidates[:-1]:
        try:
            return Pretrained(text, inside, _read_config(text, inside))
        except InputError as error:
            reason = error.__cause__.__context__ if error.__cause__ else None
            unreachable = not isinstance(reason, EntryNotFoundError) or isinstance(reason, LocalEntryNotFoundError)
            if unreachable and not only_shapes():
                raise  # not merely absent from this subfolder
    return Pretrained(text, "", _read_config(text, ""))


def is_hub_id(source: str | Path) -> bool:
    """Whether a name that is no folder here has the form of a Hub id, owner/name."""
    text = str(source)
    return not Path(text).expanduser().is_dir() and text.count("/") == 1 and text[0] not in "./~" and text[-1] != "/"


def _read_config(root: str, subfolder: str) -> dict[str, Any]:
    try:
        with _warnings_off():
            # reads the file as it is, whatever the class
            return dict(UNet2DConditionModel.load_config(root, subfolder=subfolder, local_files_only=only_shapes()))
    except Exception as error:  # the Hub's client raises many unrelated types
        where = f"{root}/{subfolder}".rstrip("/")
        away = isinstance(error.__context__, LocalEntryNotFoundError)
        got = "no answer from the Hub and no copy on this machine" if away else _one_line(error)
        raise InputError(f"source: expected a readable config.json in {where}, got {got}") from error


def load_strictly(model_class: type[Model], saved: Pretrained, **config: Any) -> Model:
    """`model_class.from_pretrained`, with an error instead of a warning when weights are missing or left over.

    Inside `with torch.device("meta")`, where tensors have a shape and no values, the config alone is read.

    Args:
        model_class: what to load; it may differ from the class that saved the weights.
        saved: where they are.
        config: values that replace the saved config's.

    Raises:
        InputError: nothing could be loaded, or some keys are missing, unexpected or of another shape; they are listed.
    """
    try:
        with _warnings_off():
            if only_shapes():
                return model_class.from_config(saved.config, **config)  # type: ignore[attr-defined]  # every model has it from ConfigMixin
            check_manifest(saved.root, below=saved.subfolder, argument="source")
            loaded: Any = model_class.from_pretrained(saved.root, subfolder=saved.subfolder, output_loading_info=True, **config)
    except InputError:
        raise
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


def only_shapes() -> bool:
    """Whether new tensors have no values here, so that reading weights for them would be in vain."""
    return torch.get_default_device().type == "meta"


@contextmanager
def _warnings_off() -> Iterator[None]:
    """diffusers and the Hub's client warn at length of what becomes an error here."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
