from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import ARGUMENTS, CHROMIUM
from hypothesis import HealthCheck, settings

# A busy machine makes every example slow; that says nothing of the code.
settings.register_profile("no-clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-clock")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference numbers and real photos that lie beside the checkout where the project is developed; they are not part of it."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("reference data (../shared beside the checkout) is not here")
    return SHARED


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright. Where LDMSEG_BROWSER is set (`.ci/run`, `make browser`), a missing browser is a failure."""
    if CHROMIUM is None and not os.environ.get("LDMSEG_BROWSER"):
        pytest.skip("there is no Chromium (apt-get install chromium)")
    assert CHROMIUM is not None, "there is no Chromium (apt-get install chromium)"
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; the extra `dev` has it")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
