"""P1: zero-fill that encodes again for every subset, beside encoding each case once; Swin-T."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.results import Goal, Result
from benchmarks.strategies import once, zeros_again
from benchmarks.swin import swin
from benchmarks.turns import CPU, in_turns, timed

GOALS = {3: Goal("P1", ">=", 5), 4: Goal("P1", ">=", 8.5)}


def measure(
    *, n_turns: int = 3, n_cases: int = 2, side: int = 224, image: str = ""
) -> Iterator[Result]:
    """Time CMML at width 128 on three and on four pictures a case, in processor time."""
    torch.set_num_threads(1)
    for n_modalities, goal in GOALS.items():
        model, inputs = swin(n_modalities, n_cases, side, image)
        again, ours = partial(zeros_again, model, inputs), partial(once, model, inputs)
        turns = in_turns(timed(again, CPU), timed(ours, CPU), n_turns)
        n_subsets = 2**n_modalities - 1
        what = f"M={n_modalities}, {n_subsets} subsets, zero-fill encoded again / once, Swin-T"
        yield Result(goal, what, turns.ratio, turns.n, turns.times)
