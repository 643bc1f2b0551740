"""Less noise from the libraries below: messages that a user did not ask for and can do nothing about."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _NothingToKeep(logging.Filter):
    """diffusers warns at every `.to(dtype)` of the modules that should stay in float32, also where there are none."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "should be kept in float32: []" not in record.getMessage()


def drop_empty_warnings() -> None:
    """Leave warnings out that name nothing; the others stay."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    if not any(isinstance(known, _NothingToKeep) for known in logger.filters):
        logger.addFilter(_NothingToKeep())


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Without diffusers' bar for the few parts of a pipeline; its other bars stay as they are."""
    from diffusers.utils import logging as diffusers_logging

    shown = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            diffusers_logging.enable_progress_bar()
