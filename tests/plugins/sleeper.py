"""A method that waits in its second epoch until it is let go, and else is GatedSum.

In the folder BENCH_TOY_GATE it writes `<errand>.waiting` and goes on when `<errand>.go` is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from bench.data import Tokens
from bench.method import Progress

from .gated_sum import GatedSum, GatedSumConfig


class SleeperConfig(GatedSumConfig):
    """Whom it waits for."""

    errand: str = ""


class Sleeper(GatedSum):
    """Wait where it is told to."""

    name = "sleeper"
    display_name = "Sleeper"
    config_class = SleeperConfig
    presets = {name: {"errand": name} for name in ("killed", "requeued", "slow")}
    default_rows = ()

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        gate, errand = os.environ.get("BENCH_TOY_GATE"), self.config.errand
        if gate and errand and progress.epoch == 1:
            wait_at(Path(gate), errand)
        return super().losses(tokens, observed, label, progress)


def wait_at(gate: Path, errand: str) -> None:
    """Wait to be let go, for two minutes at most."""
    (gate / f"{errand}.waiting").touch()
    deadline = time.monotonic() + 120
    while not (gate / f"{errand}.go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


PLUGIN = Sleeper
