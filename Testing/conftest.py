"""What all tests share: where the real images are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images (``XTL_DATA``, default ``../shared/data`` beside the project)."""
    folder = Path(os.environ.get("XTL_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"real images are absent: {folder} (set XTL_DATA)")
    return folder
