"""Measure what is asked for and print one Markdown table: `python -m benchmarks startup step`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.results import Result, page

# By name: what it measures. The opt-in ones take minutes and run only when they are named.
BENCHMARKS = {
    "startup": "P8: how long the command line takes to start",
    "stored": "P10: a finished study asked for again",
    "imports": "P9: imports of torch over runs and workers",
    "frozen": "P4: a second method on the tokens of a frozen encoder",
    "augmentation": "P5: an epoch of cached pictures altered in batches beside JPEG and PIL",
    "processes": "P6: independent runs on two processes; what the executor adds to a run",
    "trial": "what a trial of a search adds to the run that it is",
    "step": "P7: a training step beside a bare PyTorch loop",
    "methods": "P11: every method through the engine and in a plain loop; encoding once",
    "subsets": "P3: all subsets beside the full one, real Swin-T",
    "reencoding": "P1, P2: zero-fill that encodes again for each subset, real Swin-T",
}
OPT_IN = ("reencoding",)


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks, or all but the opt-in ones; 1 if a goal is missed."""
    asked = _parser().parse_args(arguments)
    names = asked.names or [name for name in BENCHMARKS if name not in OPT_IN]
    results = [result for name in names for result in _measured(name, asked.turns)]
    given = sys.argv[1:] if arguments is None else arguments
    text = page(results, " ".join(["python -m benchmarks", *given]))
    print(text, end="")
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")
    return 0 if all(result.met for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(
        f"  {name:<13}{what}{' (opt-in)' if name in OPT_IN else ''}"
        for name, what in BENCHMARKS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=BENCHMARKS, default=[])
    parser.add_argument("--turns", type=int, help="turns of each measurement; default: its own")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    return parser


def _measured(name: str, n_turns: int | None) -> list[Result]:
    started = time.perf_counter()
    print(f"{name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
    measure = importlib.import_module(f"benchmarks.{name}").measure
    results = list(measure() if n_turns is None else measure(n_turns=n_turns))
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
