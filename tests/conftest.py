from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference numbers and real photos that lie beside the checkout where the project is developed; they are not part of it."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("reference data (../shared beside the checkout) is not here")
    return SHARED
