"""What a trial of a search adds to the run that it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.request import Request
from bench.tuning.tuning import overhead
from benchmarks.results import Goal, Result
from benchmarks.turns import in_words

GOAL = Goal("trial", "<=", 1)
SHARE, SECONDS = 0.05, 1.0  # of the run, and beside it, that a trial may take more


def measure(*, n_turns: int = 5, epochs: int = 30) -> Iterator[Result]:
    """Time a run of WDBC's first fold and the trial that trains the same, in this process."""
    with TemporaryDirectory() as folder:
        studies = (_request(Path(folder), f"turn-{i}", epochs) for i in count())
        pairs = [overhead(next(studies)) for _ in range(n_turns)]
    shares = [(trial - run) / (SHARE * run + SECONDS) for run, trial in pairs]
    runs, trials = zip(*pairs, strict=True)
    times = f"{in_words(median(trials))} / {in_words(median(runs))}"
    what = "what a trial takes more than its run / (5 % of the run + 1 s)"
    yield Result(GOAL, what, median(shares), n_turns, times)


def _request(out: Path, study: str, epochs: int) -> Request:
    return Request(
        methods=("cmml",),
        folds=(0,),
        settings={"recipe": {"epochs": epochs, "patience": epochs}},
        floor=False,
        device="cpu",
        out=str(out),
        study=study,
    )
