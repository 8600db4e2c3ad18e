"""Real data under data/, which git ignores: CI unpacks them, elsewhere tests of them have nothing to read."""

from __future__ import annotations

from pathlib import Path

import pytest


def real_data(folder: str) -> Path:
    """data/FOLDER; the test that asks for it is skipped, by that name, where it is not."""
    path = Path(__file__).parents[1] / "data" / folder
    if not path.is_dir():
        pytest.skip(f"needs data/{folder}")
    return path
