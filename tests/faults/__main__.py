"""Try every fault and print what came of it; or lay siege to a study of forty cells."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from tests.faults.drills import DRILLS, STUDY, Drill, Unavailable
from tests.faults.process import bench, predictions
from tests.faults.siege import Siege

HEAD = "| fault | how it is made | exit code | what is said | what follows | finished runs lost |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table of faults, or the counts of a siege; 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("drills", "siege"), default="drills")
    parser.add_argument("--kills", type=int, default=30, help="of a siege")
    parser.add_argument("--seed", type=int, default=0, help="of a siege: who is killed, and when")
    parser.add_argument("--folder", type=Path, help="keep the studies there; default: nowhere")
    asked = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with nullcontext(asked.folder) if asked.folder else tempfile.TemporaryDirectory() as place:
        if asked.what == "siege":
            return _siege(Path(place), asked.kills, asked.seed)
        return _drills(Path(place))


def _siege(place: Path, n_kills: int, seed: int) -> int:
    started = time.monotonic()
    siege = Siege(place / "attacked", n_kills, seed)
    siege.run()
    print(f"{len(siege.killed)} kills, {siege.n_starts} starts", file=sys.stderr, flush=True)
    report = siege.report(place / "straight")
    print("\n".join(f"{name:<24}{count:>4}" for name, count in report.items()))
    print(f"{'seconds':<24}{time.monotonic() - started:>4.0f}")
    wanted = {"kills": n_kills, "cells": 40, "starts": None, "resumes": None, "of workers": None}
    wrong = [name for name, n in report.items() if wanted.get(name, 0) not in (None, n)]
    return 1 if wrong else 0


def _drills(place: Path) -> int:
    bench(place / "straight", *STUDY)
    straight = predictions(place / "straight")
    print(HEAD)
    print("|" + "---|" * (HEAD.count("|") - 1))
    kept = True
    for number, drill in enumerate(DRILLS):
        row, fine = _row(drill, place / str(number), straight)
        print(f"| {' | '.join(row)} |", flush=True)
        kept &= fine
    return 0 if kept else 1


def _row(drill: Drill, folder: Path, straight: dict[str, bytes]) -> tuple[list[str], bool]:
    """Try one fault; return its row of the table, and whether its promise was kept."""
    try:
        seen = drill.make(folder)
    except Unavailable as reason:
        return [drill.fault, drill.made, "", f"not tried: {reason}", "", ""], True
    assert seen.healed is not None
    there = predictions(folder)
    n_lost = sum(there.get(name) != each for name, each in straight.items())
    if drill.command is not STUDY:
        n_lost = 0 if seen.healed.code == 0 else 1
    fine = seen.said.code == drill.code and drill.says in seen.line and not n_lost
    line = _short(seen.line.removeprefix("bench: "), folder)
    cells = [drill.fault, drill.made, str(seen.said.code), line, drill.then, str(n_lost)]
    return [cell.replace("|", "\\|") for cell in cells], fine and seen.healed.code == 0


def _short(line: str, folder: Path) -> str:
    """Leave out where this happened."""
    words = line.replace(f"{folder}/", "").split()
    return " ".join(_without_hash(word) for word in words)


def _without_hash(word: str) -> str:
    """Shorten the path of a run to its file: `.../checkpoint.pt`."""
    if "/runs/" in word:
        quote = "'" if word.startswith("'") else ""
        return f"{quote}.../{word.rpartition('/')[2]}"
    return word


if __name__ == "__main__":
    sys.exit(main())
