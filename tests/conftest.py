"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with reference numbers and real data, or skip."""
    if not SHARED.is_dir():
        pytest.skip("the folder 'shared' with reference data is not beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)
