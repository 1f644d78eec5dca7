"""P1, P2: zero-fill that encodes again for every subset, beside encoding once and beside tokens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.arena import cache_in, some_weights
from benchmarks.results import Goal, Result
from benchmarks.strategies import once, zeros_again
from benchmarks.swin import SWIN, swin
from benchmarks.turns import CPU, in_turns, timed

ENCODED = {3: Goal("P1", ">=", 5), 4: Goal("P1", ">=", 8.5)}
WARM = {3: Goal("P2", ">=", 20), 4: Goal("P2", ">=", 30)}


def measure(
    *, n_turns: int = 3, n_cases: int = 2, side: int = 224, image: str = ""
) -> Iterator[Result]:
    """Time CMML at width 128 on three and on four pictures a case, in processor time.

    Against the warm cache the tokens have been read before, as a run does once for all its tests.
    """
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder, cache_in(Path(folder, "cache")):
        weights = some_weights(image or SWIN, Path(folder, "weights.pt"))
        for n_modalities in ENCODED:
            model, inputs = swin(n_modalities, n_cases, side, image, weights)
            zero_fill = timed(partial(zeros_again, model, inputs), CPU)
            ours = partial(once, model, inputs)
            warm = partial(once, model, model.encoders.prepare(inputs))
            said = f"M={n_modalities}, {2**n_modalities - 1} subsets, zero-fill"
            for goals, work, what in [
                (ENCODED, ours, f"{said} encoded again / encoded once, Swin-T"),
                (WARM, warm, f"{said} encoded again / tokens at hand, Swin-T"),
            ]:
                turns = in_turns(zero_fill, timed(work, CPU), n_turns)
                yield Result(goals[n_modalities], what, turns.ratio, turns.n, turns.times)
