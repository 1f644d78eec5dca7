"""A study of forty cells whose processes are killed at random moments, and started again.

A worker that is killed leaves a failed cell, which the next start tries again; a coordinator that
is killed leaves its cells pending. What must hold at the end: every cell is there once, no finished
run was touched, the table is that of a study which nobody disturbed, and nothing is left over.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults.process import bench, ended, litter, predictions, runs, start

METHODS = ("concat:", "concat:dropout", "concat:complete", "elementwise-sum:", "unimodal:")
N_CELLS = 40  # these and the three of the floor, over five folds


@dataclass
class Siege:
    """One study under attack, and what is counted of it."""

    folder: Path
    n_kills: int
    seed: int = 0
    epochs: int = 6
    killed: list[str] = field(default_factory=list)  # who, in order
    n_starts: int = 0
    n_doubled: int = 0
    _done: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def command(self) -> tuple[str, ...]:
        """The study, with a checkpoint after every epoch."""
        methods = [part for name in METHODS for part in ("-m", name)]
        brief = ("--set", f"recipe.epochs={self.epochs}", "--checkpoint-every", "0")
        return ("run", *methods, *brief, "--jobs", "2", "--device", "cpu", "--quiet")

    def run(self) -> None:
        """Kill until nobody is left to be, and let the study end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        code = -1
        while code != 0:
            process = start(self.folder, self.command)
            self.n_starts += 1
            self._attack(process)
            said = ended(process, self.folder)
            code = said.code
            at_planning = code == 2 and "ended by signal SIGKILL" in said.err
            assert code in (0, 1, -signal.SIGKILL) or at_planning, said.err
            self._count_doubled()
            assert self.n_starts < 5 * self.n_kills + 10, f"no end is in sight: {said.err}"

    def _attack(self, process: BaseProcess) -> None:
        """Kill workers of this coordinator, until it is killed itself or ends."""
        while len(self.killed) < self.n_kills and self._wait(process):
            workers = children(process.pid)
            if not workers or self.random.random() < 0.4:
                self._kill("coordinator", process.pid)
                return
            self._kill("worker", self.random.choice(workers))

    def _wait(self, process: BaseProcess) -> bool:
        """Wait for up to two further cells and a moment; return whether the process lives.

        However fast the machine is, enough cells are left for the kills that are still to come.
        """
        latest = N_CELLS * (len(self.killed) + 1) // (self.n_kills + 1)
        wanted = min(latest, len(self._finished()) + self.random.choice([0, 0, 1, 1, 2]))
        self._wait_for(process, wanted, 60)
        self._wait_for(process, latest, self.random.uniform(0, 1.5))
        return process.is_alive()

    def _wait_for(self, process: BaseProcess, n_cells: int, seconds: float) -> None:
        """Wait until so many cells are finished, the time is over or the process ends."""
        deadline = time.monotonic() + seconds
        while process.is_alive() and len(self._finished()) < n_cells:
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def _kill(self, who: str, pid: int | None) -> None:
        assert pid is not None
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed.append(who)
        self._count_doubled()

    def _finished(self) -> list[Path]:
        return list((self.folder / "results").glob("main/runs/*/status.json"))

    def _count_doubled(self) -> None:
        """Count finished runs that were written once more."""
        for run in runs(self.folder):
            if run.state != "done":
                continue
            status = run.path_of("status.json").read_bytes()
            before = self._done.setdefault(run.path.name, status)
            if before != status:
                self.n_doubled += 1
                self._done[run.path.name] = status

    def report(self, straight: Path) -> dict[str, object]:
        """Compare with a study that nobody disturbed."""
        said = bench(straight, *self.command)
        assert said.code == 0, said.err
        there, wanted = predictions(self.folder), predictions(straight)
        again = bench(self.folder, *self.command)
        resumed = [place for run in runs(self.folder) for place in run.status().get("resumed", [])]
        return {
            "kills": len(self.killed),
            "of workers": self.killed.count("worker"),
            "starts": self.n_starts,
            "resumes": len(resumed),
            "cells": len(there),
            "cells lost": len(set(wanted) - set(there)),
            "cells doubled": self.n_doubled + len(set(there) - set(wanted)),
            "predictions that differ": sum(there[name] != wanted[name] for name in wanted),
            "tables that differ": int(again.out != said.out),
            "files left over": len(litter(self.folder)),
        }


def children(pid: int | None) -> list[int]:
    """List the worker processes of a coordinator."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if parent == pid and b"spawn_main" in words:
            found.append(int(entry.name))
    return found
