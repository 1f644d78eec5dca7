"""P7: a training step of the harness beside a bare PyTorch loop on the same modules."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.arena import Arena, Shape
from benchmarks.loops import Fetcher, Loops, bare_pictures, ready
from benchmarks.results import Goal, Result
from benchmarks.turns import in_turns

ON_TOKENS = Goal("P7", "<=", 1.15)
WITH_ENCODERS = Goal("P7", "<=", 1.05)
METHODS = ("concat", "cmml")


def measure(
    *,
    n_turns: int = 9,
    n_cases: int = 2050,
    n_pictured: int = 514,
    side: int = 64,
    enough: float = 1.0,
) -> Iterator[Result]:
    """Time epochs of 64 cases a step in processor time of one thread, `enough` seconds a turn.

    On tokens the bare loop has them ready, three vectors a case; the harness makes them in every
    step. With trained encoders the bare loop calls the picture encoder itself, on two pictures a
    case.
    """
    torch.set_num_threads(1)
    vectors = Arena.of(Shape(n_cases, n_vectors=3))
    for method in METHODS:
        what = f"{method} on tokens, harness / bare loop"
        loops = Loops(vectors, method).sized(enough)
        yield _beside(loops, ready, ON_TOKENS, what, n_turns)
    pictures = Arena.of(Shape(n_pictured, n_pictures=2, side=side))
    what = f"concat and a resnet10t at {side} pixels, harness / bare loop"
    loops = Loops(pictures, "concat").sized(enough)
    yield _beside(loops, bare_pictures, WITH_ENCODERS, what, n_turns)


def _beside(loops: Loops, fetcher: Fetcher, goal: Goal, what: str, n_turns: int) -> Result:
    turns = in_turns(loops.engine, lambda: loops.plain(fetcher), n_turns)
    return Result(goal, what, turns.ratio, turns.n, turns.times)
