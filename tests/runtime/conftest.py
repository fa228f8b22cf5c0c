"""Where the large data sets are for those tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder ``../shared/data`` beside the repository; the test is skipped where it is absent."""
    if not (SHARED / "mnist.npz").is_file():
        pytest.skip("needs mnist.npz, usps.npz and cifar10.npz in ../shared/data beside the repository")
    return SHARED
