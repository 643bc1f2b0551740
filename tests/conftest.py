from __future__ import annotations

from pathlib import Path

import pytest
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
