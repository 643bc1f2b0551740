"""Loading a pipeline for a command."""

from __future__ import annotations

from typing import Any

from ldmseg.choices import Task
from ldmseg.errors import InputError, about

CLIP = "openai/clip-vit-base-patch16"
"""The CLIP of --classes."""


def load_pipeline(model: str, device: str) -> Any:
    """The `LDMSegPipeline` of `--model` on `--device`, without a progress bar of its own; its attributes are beyond a type checker.

    Raises:
        InputError: no such device or model.
    """
    from ldmseg.devices import resolve_device

    target = resolve_device(device)  # before what takes seconds to import
    from diffusers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    from ldmseg.pipeline import LDMSegPipeline

    pipe = LDMSegPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(target)


def load_classes(classes: str | None, clip: str | None, device: str) -> Any:
    """What a command's calls get as `classes`: the names of --classes by CLIP, or `own`.

    Raises:
        InputError: --clip without --classes, a name that is empty or there twice, or no such CLIP.
    """
    if classes is None:
        if clip is not None:
            raise InputError(f"--clip: expected together with --classes, got '{clip}' alone")
        return "own"
    from ldmseg.devices import resolve_device
    from ldmseg.models.open_vocabulary import OpenVocabulary

    with about("--clip"):
        return OpenVocabulary.from_clip(clip or CLIP, classes.split(",")).to(resolve_device(device))


def named_categories(pipe: Any, classes: Any, task: Task = "panoptic") -> Any:
    """What the segments of a call may be, where it gets `classes`; None where they have no names.

    Raises:
        InputError: --classes for another task than segments.
    """
    from ldmseg.inference.naming import chosen_classes

    chosen = chosen_classes(classes, pipe.own_classes, task)
    return pipe.codecs[task].segments_are if chosen is None else chosen.categories
