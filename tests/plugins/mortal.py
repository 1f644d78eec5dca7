"""A method that sends a signal at a chosen moment of its second epoch, and else is GatedSum.

The variable BENCH_TOY_SIGNAL says when and to whom: `import:kill` when it is imported, `epoch:kill`
at the start of the epoch, `step:kill` in its second step, `step:interrupt` as Ctrl-C does to all
processes of the terminal, `step:terminate` as a batch system does, `step:kill-parent` to the
coordinator, whereafter the method goes on. It may also do worse than die: `step:raise` an error,
`step:memory` take more than there is, `step:hang` go on for ever.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.data import Tokens
from bench.method import Progress

from .gated_sum import GatedSum


class Mortal(GatedSum):
    """End where it is told to."""

    name = "mortal"
    display_name = "Mortal"
    n_steps = 0  # of this epoch

    def on_epoch_start(self, progress: Progress) -> None:
        """Count steps anew."""
        self.n_steps = 0
        if progress.epoch == 1:
            send("epoch")

    def losses(
        self, tokens: Sequence[Tokens], observed: Tensor, label: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Return the cross-entropy."""
        self.n_steps += 1
        if (progress.epoch, self.n_steps) == (1, 2):
            send("step")
        return super().losses(tokens, observed, label, progress)


def send(moment: str) -> None:
    """Send the signal that is wanted at this moment."""
    when, _, what = os.environ.get("BENCH_TOY_SIGNAL", "").partition(":")
    if when != moment:
        return
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "interrupt":
        os.killpg(os.getpgrp(), signal.SIGINT)
    if what == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "kill-parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.05)  # until it is dead
        return
    if what == "raise":
        raise RuntimeError("the toy gives up")
    if what == "memory":
        take_memory()
    time.sleep(600 if what == "hang" else 30)  # what was signalled ends this


def take_memory() -> None:
    """Take a gigabyte more than this process may have."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, hard))
    torch.ones(2**30 + 2**29, dtype=torch.uint8)


send("import")
PLUGIN = Mortal
