"""Loading a pipeline for a command."""

from __future__ import annotations

from typing import Any


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
