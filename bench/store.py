"""Where runs lie: study folders, run folders and their states.

```
results/<study>/
  study.json                      the resolved request
  runs/<run>/spec.json environment.json history.jsonl checkpoint.pt
             availability.parquet predictions.parquet status.json(last)
  reports/
```
A training that is long saves itself in `resume.pt`, which is gone when the run is done.
`status.json` is written last and is the only mark of done, failed and skipped. While a run is at
work, `running.json` names its process; when that process is dead, the run is pending again. A run
whose files were finished and have changed since is damaged; who writes takes it back to pending.
One process writes a folder at a time, whatever the number of coordinators: a claim is a link, made
once or not at all, which holds on a shared file system too. Nothing is pickled.
"""

# K classes

from __future__ import annotations

import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.claims import (
    HEARTBEAT_SECONDS,
    Pulse,
    beats,
    is_live,
    is_mine,
    mark_at,
    now,
    put_mark,
    remove_stale,
)
from bench.errors import BadRequest, Claimed, ClaimLost, Damaged
from bench.files import (
    atomic_path,
    atomic_write,
    damaged,
    explained,
    json_bytes,
    plain_of,
    read_bytes,
    read_json,
    remove_leftovers,
    row_bytes,
    row_of,
)
from bench.spec import RunSpec
from bench.stored_tables import (
    check_table,
    predictions_table,
    read_arrays,
    read_parquet,
    write_arrays,
    write_frame,
    write_parquet,
)

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


class Finished(ValueError):
    """A run was to be begun that is done."""


def reason_of(status: Mapping[str, Any]) -> str:
    """Return the first line of why a run failed or was skipped; empty in the other states."""
    text = str(status.get("error") or status.get("reason") or "")
    return text.strip().partition("\n")[0]


def _is_lasting(path: Path) -> bool:
    """Say whether a file of a run belongs to it, and is no mark or temporary file of a claim."""
    return path.is_file() and path.name != RUNNING and not path.name.startswith(".")


@dataclass
class RunFolder:
    """One run on disk. Only the methods named `add_...` change it once it is done."""

    path: Path
    _beaten: float = field(default=-math.inf, compare=False, repr=False)
    _pulse: Pulse | None = field(default=None, compare=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)
    # of whoever opened the folder: the facts that it knows when the run ends, and what was asked
    # for where the attempt is made with a smaller batch, since memory ran out
    further: Callable[[], Mapping[str, object]] = field(default=dict, compare=False, repr=False)
    instead_of: RunSpec | None = field(default=None, compare=False, repr=False)

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
        there = {path.name for path in self.path.iterdir() if _is_lasting(path)}
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

    def atomic_path(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary name for a saver, moved to `name` if the block succeeds."""
        return atomic_path(self.path_of(name))

    # states

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

    # content

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a mapping as JSON; NaN and infinity become null."""
        self._refuse_done()
        self._write(name, value)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a mapping.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_json(self.path / name)

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Append one row to the training log, readable at once."""
        path = self.path / HISTORY
        with explained(path), path.open("ab") as file:
            file.write(row_bytes(plain_of(row)))

    def history(self) -> list[dict[str, Any]]:
        """Return the training log without lines that are damaged, as a last one that was cut off.

        No prediction and no score depends on it.
        """
        path = self.path / HISTORY
        if not path.is_file():
            return []
        rows = map(row_of, read_bytes(path).split(b"\n"))
        return [row for row in rows if row is not None]

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

    def predictions(self) -> pd.DataFrame:
        """Return case (str), condition (str), label (int64), p_0 ... p_{K-1} (float32).

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_parquet(self.path / PREDICTIONS)

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

    def kept_conditions(self) -> list[str]:
        """List the conditions whose representations were asked for, those without any too."""
        return list(self.status().get("representations", []))

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

    def representations(self) -> dict[str, np.ndarray]:
        """Return what `bench.runs.representations.read` sorts; empty if none were kept.

        Raises:
            BadData: the file is damaged; names it.
        """
        path = self.path / REPRESENTATIONS
        return read_arrays(path) if path.is_file() else {}

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by their names; nothing is pickled."""
        self._refuse_done()
        write_arrays(self.path / name, arrays)

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read arrays by their names.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_arrays(self.path / name)

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

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        atomic_write(self.path / name, json_bytes(value))

    def _write_status(self, status: Mapping[str, Any]) -> None:
        """Say how the run ended; what is done lies on the disk, whole, before that is said."""
        done = status["state"] == "done"
        files = [each for each in self.path.iterdir() if done and _is_lasting(each)]
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


@dataclass(frozen=True)
class StudyFolder:
    """One study on disk: its request, its runs, its reports."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise BadRequest(
                "a study's name is made of letters, digits and . + - _, and begins with a letter "
                f"or digit; got {self.name!r}"
            )

    @property
    def path(self) -> Path:
        """`<root>/<name>`."""
        return self.root / self.name

    @property
    def runs_path(self) -> Path:
        """Where the run folders lie."""
        return self.path / "runs"

    @property
    def reports_path(self) -> Path:
        """Where the reports lie."""
        return self.path / "reports"

    def exists(self) -> bool:
        """Tell whether the study was ever created."""
        return self.path.is_dir()

    def create(self) -> StudyFolder:
        """Make the folders, and make sure that they can be written before hours are spent.

        Raises:
            BadRequest: they cannot; names the folder and the cause.
        """
        with explained(self.path):
            for path in (self.runs_path, self.reports_path):
                path.mkdir(parents=True, exist_ok=True)
                with atomic_path(path / "probe") as temporary:
                    temporary.touch()
                (path / "probe").unlink(missing_ok=True)  # another coordinator may be as far
        return self

    def sweep(self) -> None:
        """Remove what the killed left: temporary files at any depth, marks on finished runs."""
        for marked in self.runs_path.glob(f"*/{RUNNING}"):
            RunFolder(marked.parent).forget_the_dead()
        for each in self.path.glob("**/.*.tmp*"):
            stem, _, _ = each.name.partition(".tmp")
            remove_leftovers(
                each.with_name(stem.removeprefix(".").rpartition(".")[0] + each.suffix)
            )

    def has(self, name: str) -> bool:
        """Tell whether the study has a file of this name."""
        return (self.path / name).is_file()

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a mapping, as `study.json` that holds the resolved request."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / name, json_bytes(value), lasting=True)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a mapping.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return read_json(self.path / name, "delete that file to have it written once more")

    def read_if_whole(self, name: str) -> dict[str, Any]:
        """Read a mapping that can be made again; an empty one if it is missing or damaged."""
        try:
            return self.read_json(name)
        except Damaged:
            return {}

    def run(self, spec: RunSpec) -> RunFolder:
        """Return the folder of a run, which need not be there."""
        return self.run_named(spec.folder)

    def run_named(self, name: str) -> RunFolder:
        """Return the run folder of this name, which need not be there."""
        return RunFolder(self.runs_path / name)

    def runs(self) -> list[RunFolder]:
        """List the run folders by name.

        Raises:
            BadRequest: there is no such study; names it.
        """
        if not self.exists():
            raise BadRequest(
                f"there is no study {self.name!r} under {str(self.root)!r}; run it first, or name "
                "its place with --out and --study"
            )
        if not self.runs_path.is_dir():
            return []
        return [RunFolder(path) for path in sorted(self.runs_path.iterdir()) if path.is_dir()]
