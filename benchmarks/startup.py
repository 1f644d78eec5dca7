"""P8: `bench --help` and `bench list` beside a Python that imports three standard modules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.interpreters import checkout, processes_with_torch, python
from benchmarks.results import Goal, Result
from benchmarks.turns import in_turns, timed

BARE = ("-c", "import argparse, json, importlib.metadata")
COMMANDS = ("--help", "list")
RATIO = Goal("P8", "<=", 3)
NO_TORCH = Goal("P8", "=", 0)


def measure(*, n_turns: int = 15) -> Iterator[Result]:
    """Time whole processes, with bytecode of the package kept and without any."""
    for command in COMMANDS:
        for kept in (True, False):
            with checkout() as folder:
                yield _timed(command, folder, n_turns, kept=kept)
        n_imports = len(processes_with_torch(command))
        yield Result(NO_TORCH, f"imports of torch by `bench {command}`", n_imports, 1)


def _timed(command: str, folder: Path, n_turns: int, *, kept: bool) -> Result:
    variables = {} if kept else {"PYTHONDONTWRITEBYTECODE": "1"}
    run = partial(python, folder=folder, variables=variables)
    turns = in_turns(timed(lambda: run("-m", "bench", command)), timed(lambda: run(*BARE)), n_turns)
    bytecode = "bytecode kept" if kept else "no bytecode"
    what = f"`bench {command}` / bare Python, {bytecode}"
    return Result(RATIO, what, turns.ratio, turns.n, turns.times)
