"""Loading a pipeline for a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ldmseg.pipeline import LDMSegPipeline


def load_pipeline(model: str, device: str) -> LDMSegPipeline:
    """The pipeline of `--model` on `--device`, without a progress bar of its own.

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
