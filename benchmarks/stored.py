"""P10: a finished study asked for again is answered from the store, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.interpreters import processes_with_torch, python
from benchmarks.results import Goal, Result
from benchmarks.turns import children, in_words, seconds

FIXED_SECONDS, SECONDS_PER_RUN = 2.0, 0.010
METHODS = ("pattern-only", "logistic-meanfill")  # the cheapest to train
N_FOLDS = 5
NO_TORCH = Goal("P10", "=", 0)


def measure(*, n_turns: int = 5, n_seeds: int = 20) -> Iterator[Result]:
    """Carry out a study of 2 * 5 * n_seeds runs and ask for it again.

    The ratio is the processor's time of the whole process, one thread, over 2 s + 10 ms per run.
    """
    with TemporaryDirectory() as folder:
        command = _command(Path(folder), n_seeds)
        python("-m", "bench", *command)
        n_runs = len(METHODS) * N_FOLDS * n_seeds
        limit = FIXED_SECONDS + SECONDS_PER_RUN * n_runs
        again = partial(python, "-m", "bench", *command)
        times = [seconds(again, children) for _ in range(n_turns)]
        yield Result(
            Goal("P10", "<=", 1),
            f"finished study of {n_runs} runs asked again / (2 s + 10 ms per run)",
            median(times) / limit,
            n_turns,
            f"{in_words(median(times))} / {in_words(limit)}",
        )
        place = ("--out", folder)
        for said, arguments in [
            ("that study asked again", command),
            ("`bench status`", ["status", *place]),
            ("`bench table`", ["table", *place]),
        ]:
            n_imports = len(processes_with_torch(*arguments))
            yield Result(NO_TORCH, f"imports of torch by {said}", n_imports, 1)


def _command(out: Path, n_seeds: int) -> list[str]:
    methods = [part for name in METHODS for part in ("--method", name)]
    seeds = f"0-{n_seeds - 1}"
    place = ["--out", str(out), "--quiet"]
    return ["run", *methods, "--no-floor", "--n-folds", str(N_FOLDS), "--seeds", seeds, *place]
