"""P3: predicting all subsets beside predicting the full one, the encoding of Swin-T included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.results import Goal, Result
from benchmarks.strategies import once
from benchmarks.swin import swin
from benchmarks.turns import CPU, in_turns, timed

GOALS = {3: Goal("P3", "<=", 1.3), 4: Goal("P3", "<=", 1.6)}


def measure(
    *, n_turns: int = 5, n_cases: int = 4, side: int = 224, image: str = ""
) -> Iterator[Result]:
    """Time CMML at width 128 on three and on four pictures a case, in processor time."""
    torch.set_num_threads(1)
    for n_modalities, goal in GOALS.items():
        model, inputs = swin(n_modalities, n_cases, side, image)
        every = partial(once, model, inputs)
        full = partial(once, model, inputs, [tuple(range(n_modalities))])
        turns = in_turns(timed(every, CPU), timed(full, CPU), n_turns)
        n_subsets = 2**n_modalities - 1
        what = f"M={n_modalities}, all {n_subsets} subsets / the full one, Swin-T"
        yield Result(goal, what, turns.ratio, turns.n, turns.times)
