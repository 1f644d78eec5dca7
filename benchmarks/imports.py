"""P9: torch is imported once per worker, however many runs there are, and not by the parent."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory

from benchmarks.interpreters import processes_with_torch
from benchmarks.results import Goal, Result


def measure(
    *, n_turns: int = 1, n_runs: int = 6, workers: tuple[int, ...] = (1, 2)
) -> Iterator[Result]:
    """Count the imports of torch over a study; a count needs no turns.

    Args:
        n_turns: how often the study is carried out; the largest count is given.
        n_runs: seeds of one method.
        workers: values of --jobs.
    """
    for n_workers in workers:
        counts = [_n_imports(n_runs, n_workers) for _ in range(n_turns)]
        what = f"imports of torch, {n_runs} runs with --jobs {n_workers}"
        yield Result(Goal("P9", "=", n_workers), what, max(counts), n_turns)


def _n_imports(n_runs: int, n_workers: int) -> int:
    with TemporaryDirectory() as folder:
        size = ["--folds", "0", "--seeds", f"0-{n_runs - 1}", "--set", "recipe.epochs=1"]
        study = ["--method", "concat:dropout", "--no-floor", "--out", folder, "--quiet"]
        jobs = ["--jobs", str(n_workers)]
        return len(processes_with_torch("run", *study, *size, *jobs))
