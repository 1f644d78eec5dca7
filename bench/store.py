"""Where runs lie: study folders, run folders, their states, and writes that are whole or absent.

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

import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BadData, BadRequest, Claimed, ClaimLost, Damaged
from bench.spec import RunSpec, digest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

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

CHECKSUM = "checksum"  # key in JSON and in the metadata of parquet; archives have their own

HEARTBEAT_SECONDS = 10.0  # a run may beat at every step; it is written this often
PULSE_SECONDS = 60.0  # and at least this often, by a thread, however long a step takes
SILENCE_SECONDS = 900.0  # a process of another host that is silent for so long is taken for dead

COORDINATOR = "BENCH_COORDINATOR"  # the variable that tells a worker the process number of its own
NEEDED = {"host", "pid", "started", "beat", "coordinator"}  # of a mark
ARRAY_TASK = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")


class Finished(ValueError):
    """A run was to be begun that is done."""


# --- writes that are whole or absent ----------------------------------------------------------


@contextmanager
def atomic_path(
    path: Path, *, lasting: bool = False, beside: Sequence[Path] = ()
) -> Iterator[Path]:
    """Give a temporary name in the same folder, moved to `path` if the block succeeds.

    The suffix is kept, since some savers append one if it is not there. What a process that was
    killed left of the same file is removed. A file that takes the place of another lies on the disk
    before it does, so that a power cut leaves one of them.

    Args:
        path: the file.
        lasting: whether it outlives a power cut from the end of the block on.
        beside: files that lie on the disk as well before this one is there.
    """
    temporary = _temporary(path)
    _sweep(path)
    try:
        yield temporary
        if lasting or path.exists():
            flush([*beside, temporary])
        os.replace(temporary, path)
        if lasting:
            flush([path.parent])
    finally:
        temporary.unlink(missing_ok=True)


def flush(paths: Sequence[Path]) -> None:
    """Wait until files, and the names in folders, lie on the disk.

    All at once: a file system that keeps a journal then writes it once or twice, not once for each.

    Raises:
        OSError: the disk does not take them.
    """
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(_flush, paths))


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written and not be listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # it keeps no such promise
            raise
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """Name a temporary file of this process beside a path."""
    unique = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.stem}.{unique}.tmp{path.suffix}")


def _sweep(path: Path) -> None:
    """Remove the temporary files of a path whose writer, a process of this host, is dead."""
    for each in path.parent.glob(f".{path.stem}.*.tmp{path.suffix}"):
        unique = each.name.removeprefix(f".{path.stem}.").removesuffix(f".tmp{path.suffix}")
        host, _, pid = unique.rpartition("-")[0].rpartition("-")
        if host == socket.gethostname() and pid.isdecimal() and not is_alive(int(pid), host):
            each.unlink(missing_ok=True)


def atomic_write(
    path: Path,
    content: bytes | memoryview,
    *,
    lasting: bool = False,
    beside: Sequence[Path] = (),
) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: the file.
        content: all of it.
        lasting: whether it outlives a power cut.
        beside: files that then do as well.

    Raises:
        BadRequest: the file cannot be written; names it and the cause.
    """
    with _explained(path), atomic_path(path, lasting=lasting, beside=beside) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRequest(
            f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}; make room and "
            "rights there, or name another folder with --out"
        ) from error


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    """Write a mapping as JSON that ends with its checksum: a changed digit would read as well."""
    plain = {key: each for key, each in _plain(value).items() if key != CHECKSUM}
    text = json.dumps(
        plain | {CHECKSUM: _checksum(plain)}, indent=1, ensure_ascii=False, allow_nan=False
    )
    return (text + "\n").encode()


def _checksum(value: object) -> str:
    """Return eight hex digits that change with any change of a plain value."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return f"{zlib.crc32(text.encode()):08x}"


def _plain(value: object) -> Any:
    """Turn a value into what JSON can say; NaN and infinity, which it cannot, become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


REPEATED = "`bench run` carries its run out again"  # what mends a damaged file of a run
DELETED = "delete its folder to have it written once more"


def _read_bytes(path: Path, cure: str = REPEATED) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        kind = Damaged if isinstance(error, FileNotFoundError) else BadData
        raise kind(
            f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}; {cure}"
        ) from error


def _read_json(path: Path, cure: str = REPEATED) -> dict[str, Any]:
    try:
        value = json.loads(_read_bytes(path, cure))
    except (ValueError, RecursionError) as error:  # wrong JSON or wrong UTF-8
        raise _damaged(path, str(error), cure) from error
    if not isinstance(value, dict):
        raise _damaged(path, f"a {type(value).__name__} instead of a mapping", cure)
    wanted = value.pop(CHECKSUM, None)  # a file written by hand has none
    if wanted is not None and wanted != _checksum(value):
        raise _damaged(path, "its checksum is another", cure)
    return value


def _damaged(path: Path, what: str, cure: str = REPEATED) -> Damaged:
    return Damaged(f"{str(path)!r} is damaged: {' '.join(what.split())}; {cure}")


# --- processes --------------------------------------------------------------------------------


def is_alive(pid: int, host: str, born: int | None = None) -> bool:
    """Tell whether a process still works; one of another host is taken for alive.

    Args:
        pid: its number.
        host: the name of its host.
        born: what `birth(pid)` gave when it was alive, since numbers are used again; None: unknown.
    """
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now = birth(pid)
    return now is None or (now > 0 and born in (None, now))


def birth(pid: int) -> int | None:
    """Return when a process was born, in clock ticks since boot; 0: it has ended; None: unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # the name, in brackets, may hold blanks and brackets; state is field 3, start time field 22
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def process_mark() -> dict[str, Any]:
    """Name this process as a mark does: host, number, birth, start and coordinator."""
    pid = os.getpid()
    started = _now()
    host = socket.gethostname()
    mark = {"host": host, "pid": pid, "born": birth(pid), "started": started, "beat": started}
    mark["coordinator"] = int(os.environ.get(COORDINATOR, pid))
    job = job_of_slurm()
    return mark | ({"job": job} if job else {})


def job_of_slurm() -> str:
    """Return the number of the Slurm job that this process is in, as squeue writes it, or none."""
    task = [os.environ[name] for name in ARRAY_TASK if name in os.environ]
    return "_".join(task) or os.environ.get("SLURM_JOB_ID", "")


def _is_mine(mark: Mapping[str, Any]) -> bool:
    pid = os.getpid()
    mine = (socket.gethostname(), pid, birth(pid))
    return (mark.get("host"), mark.get("pid"), mark.get("born")) == mine


def is_live(mark: Mapping[str, Any]) -> bool:
    """Tell whether the process of a mark still works; a damaged mark names none."""
    if not mark.keys() >= NEEDED:
        return False
    if not is_alive(mark["pid"], mark["host"], mark.get("born")):
        return False
    if mark["host"] == socket.gethostname():
        return True
    silence = datetime.now(UTC) - datetime.fromisoformat(mark["beat"])
    return silence.total_seconds() < SILENCE_SECONDS


class _Pulse:
    """Beats for a run from a thread, since a step or a calibration may take long."""

    def __init__(self, beat: Callable[[Mapping[str, object]], None]):
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(PULSE_SECONDS):
            try:
                self._beat({})
            except (BadRequest, BadData):  # a full disk: the run itself will say so
                continue
            except ClaimLost:  # likewise, at its next heartbeat
                return

    def stop(self) -> None:
        """End the thread; a beat that is being written is waited for."""
        self._over.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


# --- claims -----------------------------------------------------------------------------------


def _put_mark(path: Path) -> bool:
    """Create a mark of this process whole, or say that there is one: a link never overwrites."""
    temporary = _temporary(path)
    with _explained(path):
        temporary.write_bytes(_json_bytes(process_mark()))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links: two claims at once are not told apart
            if path.exists():
                return False
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def _beats(path: Path, mark: Mapping[str, Any]) -> bool:
    """Tell by the file system's own clock whether a mark of another host is fresh.

    Clocks of hosts differ, and jump; a mark is stale only if both clocks say so.
    """
    if not mark.keys() >= NEEDED or mark["host"] == socket.gethostname():
        return False
    probe = _temporary(path)
    try:
        probe.touch()
        age = probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return True
    finally:
        probe.unlink(missing_ok=True)
    return age < SILENCE_SECONDS


def _remove_stale(path: Path, mark: Mapping[str, Any]) -> None:
    """Take the mark of a dead process away; of many who want to, one does, and no fresh one goes.

    Whoever creates the token of this very mark may remove it, after a look whether it is still
    there. A token whose holder died is removed in the same way.
    """
    token = path.with_name(f".{digest([path.name, dict(mark)])[:16]}.json")
    if not _put_mark(token):
        holder = _mark_at(token)
        if holder is not None and not is_live(holder):
            _remove_stale(token, holder)
        time.sleep(0.005)
        return
    try:
        if _mark_at(path) == mark:
            path.unlink(missing_ok=True)
    finally:
        token.unlink(missing_ok=True)


def _mark_at(path: Path) -> dict[str, Any] | None:
    """Read a mark; None: there is none. One that is damaged has nothing but its checksum."""
    try:
        return _read_json(path)
    except Damaged:
        try:
            return {CHECKSUM: zlib.crc32(path.read_bytes())}
        except (FileNotFoundError, NotADirectoryError):
            return None


# --- predictions ------------------------------------------------------------------------------


def _check_predictions(frame: pd.DataFrame) -> list[str]:
    """Return the probability columns p_0 ... p_{K-1} of a frame that keeps the promises."""
    lacking = {"case", "condition", "label"} - set(frame.columns)
    proba = [name for name in frame.columns if name.startswith("p_")]
    wanted = [f"p_{k}" for k in range(len(proba))]
    if lacking or len(wanted) < 2 or set(proba) != set(wanted):
        raise ValueError(
            f"predictions need case, condition, label, p_0 ... p_K-1, got {list(frame.columns)}"
        )
    if frame.duplicated(["case", "condition"]).any():
        raise ValueError("predictions must hold each case once per condition")
    if not frame[wanted].apply(lambda column: column.between(0.0, 1.0 + 1e-6)).all(axis=None):
        raise ValueError("predictions must be probabilities in [0, 1]")
    return wanted


def _predictions_table(frame: pd.DataFrame) -> pa.Table:
    """Lay predictions out so that equal ones give equal bytes: fixed columns, types and order.

    Rows are sorted by condition, then by case, both in the order of their first appearance.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    proba = _check_predictions(frame)
    case = frame["case"].map(str)
    condition = frame["condition"].map(str)
    order = np.lexsort((pd.factorize(case)[0], pd.factorize(condition)[0]))
    columns = {
        "case": pa.array(case.to_numpy(object)[order], pa.string()),
        "condition": pa.array(condition.to_numpy(object)[order], pa.string()),
        "label": pa.array(frame["label"].to_numpy(np.int64)[order]),
    }
    for name in proba:
        columns[name] = pa.array(frame[name].to_numpy(np.float32)[order])
    return pa.table(columns)


def _write_parquet(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({CHECKSUM: _layout_checksum(table.schema, len(table))})
    with _explained(path), atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _layout_checksum(schema: pa.Schema, n_rows: int) -> str:
    """Return the checksum of what the checksums of the pages leave out: columns and rows."""
    columns = [[each.name, str(each.type)] for each in schema]
    return _checksum([columns, n_rows])


def _write_frame(path: Path, frame: pd.DataFrame) -> None:
    import pyarrow as pa

    # pandas' own metadata, which holds versions, is left out: equal frames should give equal bytes
    _write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))


def _read_parquet(path: Path) -> pd.DataFrame:
    return _read_table(path).to_pandas()


def _check_table(path: Path) -> None:
    """Read a table, unless this process has and it was not written since.

    Raises:
        Damaged: it is missing or damaged; names it.
    """
    try:
        stat = path.stat()
    except OSError:  # which reading it says in words
        _read_table(path)
    else:
        _checked(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=65536)
def _checked(path: Path, stamp: tuple[int, int, int]) -> None:
    _read_table(path)


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = _read_bytes(path)
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            table = file.read()
        wanted = (table.schema.metadata or {}).get(CHECKSUM.encode())  # older files have none
        if wanted not in (None, _layout_checksum(table.schema, len(table)).encode()):
            raise ValueError("its columns or rows are others")
        return table.replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


# --- arrays -----------------------------------------------------------------------------------


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import numpy as np

    names = np.array(_checksum(list(arrays)))  # a list that is cut short would read as well
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{CHECKSUM: names, **arrays})
    atomic_write(path, buffer.getbuffer())


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    content = io.BytesIO(_read_bytes(path, DELETED))
    try:
        with np.load(content, allow_pickle=False) as saved:  # looks at each one's checksum
            arrays = dict(saved)
        wanted = arrays.pop(CHECKSUM, None)  # older files have none
        if wanted is not None and str(wanted) != _checksum(list(arrays)):
            raise ValueError("not all of its arrays are there")
    except Exception as error:  # a damaged archive provokes many kinds
        raise _damaged(path, str(error), DELETED) from error
    return arrays


# --- folders ----------------------------------------------------------------------------------


def _row_of_history(line: bytes) -> dict[str, Any] | None:
    """Read a row, without its checksum; None: it is damaged. Older rows have no checksum."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    wanted = row.pop(CHECKSUM, None)
    return row if wanted in (None, _checksum(row)) else None


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
    _pulse: _Pulse | None = field(default=None, compare=False, repr=False)
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
        return _mark_at(self.path / RUNNING)

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
                    _check_table(self.path / name)
                elif name in further:
                    _read_arrays(self.path / name)
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
            if mark is None or not _is_mine(mark):
                raise ClaimLost(
                    f"the run {self.path.name} was silent for so long that another process took "
                    "it over; this attempt ends"
                )
            self._write(RUNNING, {**mark, "beat": _now(), **progress})

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
        return _read_json(self.path / name)

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Append one row to the training log, readable at once."""
        plain = _plain(row)
        line = json.dumps(plain | {CHECKSUM: _checksum(plain)}, ensure_ascii=False, allow_nan=False)
        with (
            _explained(self.path / HISTORY),
            (self.path / HISTORY).open("a", encoding="utf-8") as f,
        ):
            f.write(line + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Return the training log without lines that are damaged, as a last one that was cut off.

        No prediction and no score depends on it.
        """
        path = self.path / HISTORY
        if not path.is_file():
            return []
        rows = map(_row_of_history, _read_bytes(path).split(b"\n"))
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
        _write_parquet(self.path / PREDICTIONS, _predictions_table(frame))

    def predictions(self) -> pd.DataFrame:
        """Return case (str), condition (str), label (int64), p_0 ... p_{K-1} (float32).

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return _read_parquet(self.path / PREDICTIONS)

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
            _write_parquet(self.path / PREDICTIONS, _predictions_table(both))
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
            _write_arrays(self.path / REPRESENTATIONS, both)
        names = dict.fromkeys([*status.get("representations", []), *conditions])
        self._write_status({**status, "representations": list(names)})

    def representations(self) -> dict[str, np.ndarray]:
        """Return what `bench.representations.read` sorts; empty if none were kept.

        Raises:
            BadData: the file is damaged; names it.
        """
        path = self.path / REPRESENTATIONS
        return _read_arrays(path) if path.is_file() else {}

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays by their names; nothing is pickled."""
        self._refuse_done()
        _write_arrays(self.path / name, arrays)

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read arrays by their names.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return _read_arrays(self.path / name)

    def write_availability(self, frame: pd.DataFrame) -> None:
        """Write who has what: `case`, `part`, `condition`, a column per modality and attribute."""
        self.write_frame(AVAILABILITY, frame)

    def add_availability(self, frame: pd.DataFrame) -> None:
        """Add the patterns of further conditions to a finished run."""
        import pandas as pd

        old = self.availability()
        new = frame[~frame["condition"].isin(set(old["condition"]))]
        if len(new):
            _write_frame(self.path / AVAILABILITY, pd.concat([old, new], ignore_index=True))

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table of the run as parquet; equal frames give equal bytes."""
        self._refuse_done()
        _write_frame(self.path / name, frame)

    def read_frame(self, name: str) -> pd.DataFrame:
        """Read a table of the run.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return _read_parquet(self.path / name)

    def availability(self) -> pd.DataFrame:
        """Return who had what, per part.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return _read_parquet(self.path / AVAILABILITY)

    def _ended(self) -> dict[str, Any] | None:
        """Read how the run ended; None: it has not."""
        path = self.path / STATUS
        if not path.exists():
            return None
        status = _read_json(path)
        if status.get("state") not in WRITTEN:
            raise _damaged(path, f"state {status.get('state')!r}")
        return status

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        atomic_write(self.path / name, _json_bytes(value))

    def _write_status(self, status: Mapping[str, Any]) -> None:
        """Say how the run ended; what is done lies on the disk, whole, before that is said."""
        done = status["state"] == "done"
        files = [each for each in self.path.iterdir() if done and _is_lasting(each)]
        atomic_write(self.path / STATUS, _json_bytes(status), lasting=done, beside=files)

    def _refuse_done(self) -> None:
        if self.state == "done":
            raise ValueError(f"a finished run never changes: {self.path.name}")

    def _take(self) -> None:
        """Claim the folder for a new attempt, and beat for as long as it lasts."""
        with _explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._stop_pulse()
        self._claim()
        if self.state == "done":
            self.release()
            raise Finished(f"a finished run never changes: {self.path.name}")
        self._pulse = _Pulse(self._beat)

    def _stop_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None

    def _claim(self) -> None:
        """Put this process's mark, unless another live process has its own there."""
        path = self.path / RUNNING
        while path.exists() or not _put_mark(path):
            mark = self.mark()
            if mark is None:
                continue
            if not _is_mine(mark) and (is_live(mark) or _beats(path, mark)):
                raise Claimed(
                    f"the run {self.path.name} is at work in process {mark['pid']} on "
                    f"{mark['host']} since {mark['started']}; wait for it, or end it first"
                )
            _remove_stale(path, mark)

    def _clear(self) -> None:
        with _explained(self.path):
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
        if mark and not _is_mine(mark):
            raise ClaimLost(f"the run {self.path.name} was taken over; this attempt is not kept")
        times = {"started": mark.get("started"), "ended": _now()}
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
        with _explained(self.path):
            for path in (self.runs_path, self.reports_path):
                path.mkdir(parents=True, exist_ok=True)
                with atomic_path(path / "probe") as temporary:
                    temporary.touch()
                (path / "probe").unlink(missing_ok=True)  # another coordinator may be as far
        return self

    def sweep(self) -> None:
        """Remove the temporary files, at any depth, whose writers were killed on this host."""
        for each in self.path.glob("**/.*.tmp*"):
            stem, _, _ = each.name.partition(".tmp")
            _sweep(each.with_name(stem.removeprefix(".").rpartition(".")[0] + each.suffix))

    def has(self, name: str) -> bool:
        """Tell whether the study has a file of this name."""
        return (self.path / name).is_file()

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a mapping, as `study.json` that holds the resolved request."""
        with _explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / name, _json_bytes(value), lasting=True)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a mapping.

        Raises:
            BadData: the file is missing or damaged; names it.
        """
        return _read_json(self.path / name, "delete that file to have it written once more")

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
