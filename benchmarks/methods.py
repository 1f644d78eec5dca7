"""P11: each method through the engine beside the same method in a plain loop; and encoding once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.arena import Arena, Shape, methods_for
from benchmarks.loops import Loops
from benchmarks.results import Goal, Result
from benchmarks.strategies import once, present_again
from benchmarks.turns import CPU, in_turns, timed

TRAINING = Goal("P11", "<=", 1.05)
EVALUATION = Goal("P11", "<=", 1.0)
EVALUATED = ("concat", "cmml")


def measure(
    *,
    n_turns: int = 5,
    n_cases: int = 2050,
    n_pictured: int = 32,
    names: Sequence[str] = (),
    enough: float = 0.5,
) -> Iterator[Result]:
    """Time both in processor time of one thread, epochs of `enough` seconds a turn.

    A training step is encoding, losses, backward and fused Adam on 64 cases of two vectors and a
    table; both loops call the same shared encoders. The evaluation predicts all 7 subsets of three
    pictures; the loop beside it encodes the present ones again for each subset.
    """
    torch.set_num_threads(1)
    arena = Arena.of(Shape(n_cases, n_vectors=2, n_tables=1))
    for name in names or methods_for(arena.dataset):
        loops = Loops(arena, name).sized(enough)
        turns = in_turns(loops.engine, loops.plain, n_turns)
        what = f"{name}: training step, engine / plain loop"
        yield Result(TRAINING, what, turns.ratio, turns.n, turns.times)
    pictured = Arena.of(Shape(n_pictured, n_pictures=3))
    for name in EVALUATED:
        yield _evaluation(pictured, name, n_turns)


def _evaluation(arena: Arena, name: str, n_turns: int) -> Result:
    model = arena.builder(name)(None).eval()
    inputs = arena.inputs(np.arange(arena.dataset.n_cases))
    ours, again = partial(once, model, inputs), partial(present_again, model, inputs)
    turns = in_turns(timed(ours, CPU), timed(again, CPU), n_turns)
    what = f"{name}: all 7 subsets, encode once / again per subset"
    return Result(EVALUATION, what, turns.ratio, turns.n, turns.times)
