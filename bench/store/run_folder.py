"""One run that is carried out: claimed by one process, written, ended, and perhaps added to."""

# K classes

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import Claimed, ClaimLost
from bench.files import atomic_path, atomic_write, explained, json_bytes, plain_of, row_bytes
from bench.spec import RunSpec
from bench.store.claims import (
    HEARTBEAT_SECONDS,
    Pulse,
    beats,
    is_live,
    is_mine,
    now,
    put_mark,
    remove_stale,
)
from bench.store.run_files import (
    AVAILABILITY,
    ENVIRONMENT,
    HISTORY,
    PREDICTIONS,
    REPRESENTATIONS,
    RESUME,
    RESUME_BEFORE,
    RESUME_LOG,
    RUNNING,
    SMALLER,
    SPEC,
    STATUS,
    RunFiles,
    State,
    is_lasting,
)
from bench.store.tables import predictions_table, write_arrays, write_frame, write_parquet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Finished(ValueError):
    """A run was to be begun that is done."""


@dataclass
class RunFolder(RunFiles):
    """One run on disk. Only the methods named `add_...` change it once it is done."""

    _beaten: float = field(default=-math.inf, compare=False, repr=False)
    _pulse: Pulse | None = field(default=None, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)
    # of whoever opened the folder: the facts that it knows when the run ends, and what was asked
    # for where the attempt is made with a smaller batch, since memory ran out
    further: Callable[[], Mapping[str, object]] = field(default=dict, compare=False, repr=False)
    instead_of: RunSpec | None = field(default=None, compare=False, repr=False)

    def atomic_path(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary name for a saver, moved to `name` if the block succeeds."""
        return atomic_path(self.path_of(name))

    def begin(self, spec: RunSpec, environment: Mapping[str, Any]) -> None:
        """Take the folder for this process and clear what an earlier attempt left.

        Checkpoints inside its training stay, for this attempt to go on from.

        Raises:
            BadRequest: another process is at work on it, or the folder cannot be written.
            ValueError: the run is done.
        """
        self._take()
        if self.instead_of or self.path_of(SMALLER).exists():
            for name in (RESUME, RESUME_BEFORE, RESUME_LOG):  # of a batch of another size
                self.path_of(name).unlink(missing_ok=True)
        self._clear()
        self._write(SPEC, (self.instead_of or spec).model_dump(mode="json"))
        self._write(ENVIRONMENT, environment)
        if self.instead_of:
            self._write(SMALLER, {"batch_size": spec.recipe.batch_size})

    def heartbeat(self, **progress: object) -> None:
        """Say that the run is still at work, and where; cheap enough for every step.

        Raises:
            ClaimLost: another process has taken the run over, which was taken for dead.
        """
        now = time.monotonic()
        if now - self._beaten < HEARTBEAT_SECONDS:
            return
        self._beaten = now
        self._beat(progress)

    def _beat(self, progress: Mapping[str, object]) -> None:
        with self._lock:
            mark = self.mark()
            if mark is None or not is_mine(mark):
                raise ClaimLost(
                    f"the run {self.path.name} was silent for so long that another process took "
                    "it over; this attempt ends"
                )
            self._write(RUNNING, {**mark, "beat": now(), **progress})

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes off a finished run while something is added to it.

        Raises:
            Claimed: another process is at work on it.
        """
        self._claim()
        try:
            yield
        finally:
            self.release()

    def forget_the_dead(self) -> None:
        """Remove the mark of a process that ended between the last file of a run and its mark."""
        path, mark = self.path / RUNNING, self.mark()
        if mark and (self.path / STATUS).exists() and not (is_live(mark) or beats(path, mark)):
            remove_stale(path, mark)

    def take_back(self) -> None:
        """Make a finished run, a file of which is damaged, pending again.

        Raises:
            Claimed: another process is at work on it, perhaps for the same reason.
        """
        with self.held():
            (self.path / STATUS).unlink(missing_ok=True)

    def finish(self, **facts: object) -> None:
        """Mark the run as done; `facts` is what reports should know.

        Facts with a meaning of their own: `conditions` (names, in order), `long_names`
        (condition -> long name), `dropout_law`.
        """
        self._close("done", facts)

    def fail(self, error: str, traceback: str) -> None:
        """Mark the run as failed; `error` is one line, `traceback` the whole."""
        self._close("failed", {"error": error, "traceback": traceback})

    def skip(self, reason: str) -> None:
        """Mark the run as one that the method cannot take."""
        self._close("skipped", {"reason": reason})

    def release(self) -> None:
        """Give up an unfinished run, which makes it pending."""
        self._stop_pulse()
        (self.path / RUNNING).unlink(missing_ok=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a mapping as JSON; NaN and infinity become null."""
        self._refuse_done()
        self._write(name, value)

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Append one row to the training log, readable at once."""
        path = self.path / HISTORY
        with explained(path), path.open("ab") as file:
            file.write(row_bytes(plain_of(row)))

    def write_predictions(self, frame: pd.DataFrame) -> None:
        """Write the predictions of the run.

        Args:
            frame: case, condition, label, p_0 ... p_{K-1}; each case once per condition. Rows are
                kept by condition, then case, in the order in which both first appear.

        Raises:
            ValueError: other columns, a case twice, not probabilities, or the run is done.
        """
        self._refuse_done()
        write_parquet(self.path / PREDICTIONS, predictions_table(frame))

    def add_predictions(
        self,
        frame: pd.DataFrame,
        long_names: Mapping[str, str],
        condition_gaps: Mapping[str, object] | None = None,
    ) -> None:
        """Add further conditions to a finished run; those already there are never changed.

        Args:
            frame: as for `write_predictions`; may lack conditions in which no case serves.
            long_names: name -> long name of all the conditions that were asked for.
            condition_gaps: name -> how the draw of its gaps went.

        Raises:
            ValueError: the run is not done, or the columns differ from those there.
        """
        import pandas as pd

        status = self.status()
        if status["state"] != "done":
            raise ValueError(
                f"only a finished run takes further conditions, {self.path.name} is not"
            )
        old = self.predictions()
        further = frame[~frame["condition"].map(str).isin(set(old["condition"]))]
        if len(further):
            if set(further.columns) != set(old.columns):
                raise ValueError(f"columns must be {list(old.columns)}, got {list(frame.columns)}")
            both = pd.concat([old, further[old.columns].astype(old.dtypes)], ignore_index=True)
            write_parquet(self.path / PREDICTIONS, predictions_table(both))
        names = dict.fromkeys([*status.get("conditions", []), *long_names])
        known = {**long_names, **status.get("long_names", {})}
        gaps = {**(condition_gaps or {}), **status.get("condition_gaps", {})}
        facts = {"conditions": list(names), "long_names": known, "condition_gaps": gaps}
        self._write_status({**status, **facts})

    def add_representations(
        self, arrays: Mapping[str, np.ndarray], conditions: Sequence[str]
    ) -> None:
        """Keep representations of further conditions of a finished run, beside those there.

        Args:
            arrays: by name; may lack conditions in which there is nothing to keep.
            conditions: all that was asked for, by name.

        Raises:
            ValueError: the run is not done.
        """
        status = self.status()
        if status["state"] != "done":
            raise ValueError(f"only a finished run keeps representations, {self.path.name} is not")
        if arrays:
            both = {**self.representations(), **arrays}
            write_arrays(self.path / REPRESENTATIONS, both)
        names = dict.fromkeys([*status.get("representations", []), *conditions])
        self._write_status({**status, "representations": list(names)})

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by their names; nothing is pickled."""
        self._refuse_done()
        write_arrays(self.path / name, arrays)

    def write_availability(self, frame: pd.DataFrame) -> None:
        """Write who has what: `case`, `part`, `condition`, a column per modality and attribute."""
        self.write_frame(AVAILABILITY, frame)

    def add_availability(self, frame: pd.DataFrame) -> None:
        """Add the patterns of further conditions to a finished run."""
        import pandas as pd

        old = self.availability()
        new = frame[~frame["condition"].isin(set(old["condition"]))]
        if len(new):
            write_frame(self.path / AVAILABILITY, pd.concat([old, new], ignore_index=True))

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table of the run as parquet; equal frames give equal bytes."""
        self._refuse_done()
        write_frame(self.path / name, frame)

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        atomic_write(self.path / name, json_bytes(value))

    def _write_status(self, status: Mapping[str, Any]) -> None:
        """Say how the run ended; what is done lies on the disk, whole, before that is said."""
        done = status["state"] == "done"
        files = [each for each in self.path.iterdir() if done and is_lasting(each)]
        atomic_write(self.path / STATUS, json_bytes(status), lasting=done, beside=files)

    def _refuse_done(self) -> None:
        if self.state == "done":
            raise ValueError(f"a finished run never changes: {self.path.name}")

    def _take(self) -> None:
        """Claim the folder for a new attempt, and beat for as long as it lasts."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._stop_pulse()
        self._claim()
        if self.state == "done":
            self.release()
            raise Finished(f"a finished run never changes: {self.path.name}")
        self._pulse = Pulse(self._beat)

    def _stop_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None

    def _claim(self) -> None:
        """Put this process's mark, unless another live process has its own there."""
        path = self.path / RUNNING
        while path.exists() or not put_mark(path):
            mark = self.mark()
            if mark is None:
                continue
            if not is_mine(mark) and (is_live(mark) or beats(path, mark)):
                raise Claimed(
                    f"the run {self.path.name} is at work in process {mark['pid']} on "
                    f"{mark['host']} since {mark['started']}; wait for it, or end it first"
                )
            remove_stale(path, mark)

    def _clear(self) -> None:
        with explained(self.path):
            for each in self.path.iterdir():
                if each.name in (RUNNING, RESUME, RESUME_BEFORE, RESUME_LOG):
                    continue
                if each.is_dir() and not each.is_symlink():
                    shutil.rmtree(each)
                else:
                    each.unlink(missing_ok=True)

    def _close(self, state: State, facts: Mapping[str, object]) -> None:
        self._refuse_done()
        self._stop_pulse()
        mark = self.mark() or {}
        if mark and not is_mine(mark):
            raise ClaimLost(f"the run {self.path.name} was taken over; this attempt is not kept")
        times = {"started": mark.get("started"), "ended": now()}
        self._write_status({"state": state, **times, **self.further(), **facts})
        self.release()
