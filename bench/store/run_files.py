"""One run as it lies on disk: its state, its facts and what was predicted; nothing is written."""

# K classes

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import Damaged
from bench.files import damaged, read_bytes, read_json, row_of
from bench.store.claims import is_live, mark_at
from bench.store.tables import check_table, read_arrays, read_parquet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

State = Literal["pending", "running", "done", "failed", "skipped", "damaged"]
WRITTEN = ("done", "failed", "skipped")  # states that `status.json` may tell

SPEC = "spec.json"
ENVIRONMENT = "environment.json"
RUNNING = "running.json"
STATUS = "status.json"
SMALLER = "smaller_batch.json"  # of an attempt with a smaller batch than was asked for
HISTORY = "history.jsonl"
PREDICTIONS = "predictions.parquet"
AVAILABILITY = "availability.parquet"
RESUME, RESUME_BEFORE = "resume.pt", "resume.previous.pt"  # checkpoints inside a training
RESUME_LOG = "resume.json"  # how often they were needed, and what was wrong with them
REPRESENTATIONS = "representations.npz"


def reason_of(status: Mapping[str, Any]) -> str:
    """Return the first line of why a run failed or was skipped; empty in the other states."""
    text = str(status.get("error") or status.get("reason") or "")
    return text.strip().partition("\n")[0]


def is_lasting(path: Path) -> bool:
    """Say whether a file of a run belongs to it, and is no mark or temporary file of a claim."""
    return path.is_file() and path.name != RUNNING and not path.name.startswith(".")


@dataclass
class RunFiles:
    """The files of one run, to be read."""

    path: Path

    @property
    def identity(self) -> str:
        """The twelve hex digits at the end of its name."""
        return self.path.name.rpartition("-")[2]

    @property
    def state(self) -> State:
        """Where the run stands."""
        return self.status()["state"]

    def status(self) -> dict[str, Any]:
        """Return the state and the facts of the run, or of the process that is at work on it.

        Raises:
            BadData: the system does not let a file be read; names it.
        """
        # in this order: a run writes its status before it takes its mark away
        mark = self.mark()
        try:
            status = self._ended()
        except Damaged as error:
            return {"state": "damaged", "error": self._without_place(error)}
        if status is not None:
            return status
        if mark is not None and is_live(mark):
            return {"state": "running", **mark}
        return {"state": "pending"}

    def mark(self) -> dict[str, Any] | None:
        """Return the mark of the process that is, or was when it died, at work on the run."""
        return mark_at(self.path / RUNNING)

    def reason(self) -> str:
        """Say in one line why the run failed, was skipped or is damaged; else nothing."""
        return reason_of(self.status())

    def damage(self, *further: str) -> str:
        """Say which file of a finished run is not as it was written; empty: all are, or it is open.

        Its JSON and tables are read. Weights and arrays, which may be large, are looked at by who
        uses them.

        Args:
            further: names of archives of arrays to be looked at as well, where they are there.
        """
        status = self.status()
        if status["state"] != "done":
            return reason_of(status) if status["state"] == "damaged" else ""
        there = {path.name for path in self.path.iterdir() if is_lasting(path)}
        try:
            for name in sorted({SPEC, PREDICTIONS} | there):
                if name.endswith(".json"):
                    self.read_json(name)
                elif name.endswith(".parquet"):
                    check_table(self.path / name)
                elif name in further:
                    read_arrays(self.path / name)
        except Damaged as error:
            return self._without_place(error)
        return ""

    def _without_place(self, error: Damaged) -> str:
        return str(error).replace(f"{self.path}{os.sep}", "")

    def spec(self) -> dict[str, Any]:
        """Return what the run is, as `RunSpec.model_dump` gave it.

        Raises:
            BadData: spec.json is missing or damaged.
        """
        return self.read_json(SPEC)

    def has_spec(self) -> bool:
        """Tell whether the run was ever begun, so that it can be reported."""
        return (self.path / SPEC).is_file()

    def path_of(self, name: str) -> Path:
        """Return where a file of the run lies."""
        return self.path / name

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a mapping.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_json(self.path / name)

    def history(self) -> list[dict[str, Any]]:
        """Return the training log without lines that are damaged, as a last one that was cut off.

        No prediction and no score depends on it.
        """
        path = self.path / HISTORY
        if not path.is_file():
            return []
        rows = map(row_of, read_bytes(path).split(b"\n"))
        return [row for row in rows if row is not None]

    def predictions(self) -> pd.DataFrame:
        """Return case (str), condition (str), label (int64), p_0 ... p_{K-1} (float32).

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_parquet(self.path / PREDICTIONS)

    def kept_conditions(self) -> list[str]:
        """List the conditions whose representations were asked for, those without any too."""
        return list(self.status().get("representations", []))

    def representations(self) -> dict[str, np.ndarray]:
        """Return what `bench.runner.representations.read` sorts; empty if none were kept.

        Raises:
            BadData: the file is damaged; names it.
        """
        path = self.path / REPRESENTATIONS
        return read_arrays(path) if path.is_file() else {}

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read arrays by their names.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_arrays(self.path / name)

    def read_frame(self, name: str) -> pd.DataFrame:
        """Read a table of the run.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_parquet(self.path / name)

    def availability(self) -> pd.DataFrame:
        """Return who had what, per part.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_parquet(self.path / AVAILABILITY)

    def _ended(self) -> dict[str, Any] | None:
        """Read how the run ended; None: it has not."""
        path = self.path / STATUS
        if not path.exists():
            return None
        status = read_json(path)
        if status.get("state") not in WRITTEN:
            raise damaged(path, f"state {status.get('state')!r}")
        return status
