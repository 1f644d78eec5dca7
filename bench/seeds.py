"""One seed per purpose, so that no draw depends on what else was drawn before it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_for(purpose: str, *keys: object) -> int:
    """Return a 63-bit seed that depends on the purpose and the keys alone."""
    text = "\x1f".join([purpose, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(purpose: str, *keys: object) -> torch.Generator:
    """Return a CPU generator seeded by `seed_for`."""
    import torch

    return torch.Generator().manual_seed(seed_for(purpose, *keys))
