"""What all tests share: where the real images are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at every run: a red suite is a change's fault, never a draw's. Search for new ones with
# --hypothesis-profile=default.
settings.register_profile("suite", derandomize=True)
settings.load_profile("suite")

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images (``XTL_DATA``, default ``../shared/data`` beside the project)."""
    folder = Path(os.environ.get("XTL_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"real images are absent: {folder} (set XTL_DATA)")
    return folder
