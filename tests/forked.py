"""A child of the test's own process: it has everything imported already, so that killing it costs no new start of Python and torch."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


def ended(action: Callable[[], object]) -> int:
    """Run `action` in a child. Its exit code comes back: 0 when `action` returned, 1 after an exception; or its signal, negative."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
