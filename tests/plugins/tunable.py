"""A method whose settings break it in every way that a search must outlive."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from bench.data import Tokens
from bench.method import Progress

from .gated_sum import GatedSum, GatedSumConfig


class TunableConfig(GatedSumConfig):
    """What a search may ask for."""

    fault: Literal["none", "nan", "raises", "dies", "hangs"] = "none"
    pause: float = Field(0.0, ge=0, description="seconds at the start of each epoch")


class Tunable(GatedSum):
    """Train as GatedSum does, unless its settings forbid it."""

    name = "tunable"
    display_name = "Tunable"
    config_class = TunableConfig

    @classmethod
    def search_space(cls, trial: Any) -> dict[str, Any]:
        """Suggest what the environment says."""
        space = os.environ.get("BENCH_TOY_SPACE", "sound")
        if space == "contradictory":
            return {"p_drop": trial.suggest_float("p_drop", 0.5, 0.1)}
        if space == "stillborn" and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        if space == "refused":
            return {"p_drop": trial.suggest_float("p_drop", 2.0, 3.0)}
        found = {"p_drop": trial.suggest_float("p_drop", 0.0, 0.9)}
        if space not in ("sound", "stillborn"):
            found["fault"] = trial.suggest_categorical("fault", ["none", *space.split("+")])
        return found

    def on_epoch_start(self, progress: Progress) -> None:
        """Take time, all of it if it hangs, or end the process."""
        time.sleep(600.0 if self.config.fault == "hangs" else self.config.pause)
        if self.config.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.fault == "raises":
            raise RuntimeError("the toy gives up")

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy, which may be NaN."""
        terms = super().losses(tokens, observed, label, progress)
        return {"ce": terms["ce"] * float("nan")} if self.config.fault == "nan" else terms


PLUGIN = Tunable
