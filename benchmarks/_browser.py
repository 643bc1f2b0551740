"""The tests' server and page (tests/browsing.py), for benchmarks that need a real browser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browsing import ARGUMENTS, CHROMIUM, Window, process, window

__all__ = ["Window", "chromium", "process", "window"]


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium (apt-get install chromium), driven by playwright (the extra `dev`)."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise SystemExit("there is no Chromium (apt-get install chromium)")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
