"""Missing patterns: who has what under a training setting, the same for every method."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.data import Availability, Dataset


def observed_under(dataset: Dataset, setting: Mapping[str, Any]) -> Availability:
    """Return what each case has under a training setting; `complete` leaves natural gaps."""
    if setting["name"] != "complete":
        raise ValueError(f"setting must be complete, got {setting['name']!r}")
    return dataset.natural()


def pattern_digest(availability: Availability, rows: np.ndarray) -> str:
    """Hash who has what among these cases, in their order."""
    chosen = availability.rows(rows)
    parts = [np.packbits(chosen.modality).tobytes()]
    parts += [np.packbits(chosen.attributes[m]).tobytes() for m in sorted(chosen.attributes)]
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]
