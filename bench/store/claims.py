"""Who is at work on a run: the mark of a process, its beat, and how a dead one's is taken over.

A claim is a link, made once or not at all, which holds on a shared file system too.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import BadData, BadRequest, ClaimLost, Damaged
from bench.files import CHECKSUM, explained, json_bytes, read_json, temporary_beside
from bench.liveness import birth, is_alive
from bench.spec import digest

HEARTBEAT_SECONDS = 10.0  # a run may beat at every step; it is written this often
PULSE_SECONDS = 60.0  # and at least this often, by a thread, however long a step takes
SILENCE_SECONDS = 900.0  # a process of another host that is silent for so long is taken for dead
COORDINATOR = "BENCH_COORDINATOR"  # the variable that tells a worker the process number of its own
NEEDED = {"host", "pid", "started", "beat", "coordinator"}  # of a mark
ARRAY_TASK = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")


def now() -> str:
    """Return the time of day in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def process_mark() -> dict[str, Any]:
    """Name this process as a mark does: host, number, birth, start and coordinator."""
    pid = os.getpid()
    started = now()
    host = socket.gethostname()
    mark = {"host": host, "pid": pid, "born": birth(pid), "started": started, "beat": started}
    mark["coordinator"] = int(os.environ.get(COORDINATOR, pid))
    job = job_of_slurm()
    return mark | ({"job": job} if job else {})


def job_of_slurm() -> str:
    """Return the number of the Slurm job that this process is in, as squeue writes it, or none."""
    task = [os.environ[name] for name in ARRAY_TASK if name in os.environ]
    return "_".join(task) or os.environ.get("SLURM_JOB_ID", "")


def is_mine(mark: Mapping[str, Any]) -> bool:
    """Tell whether a mark is of this process."""
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


class Pulse:
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


def put_mark(path: Path) -> bool:
    """Create a mark of this process whole, or say that there is one: a link never overwrites."""
    temporary = temporary_beside(path)
    with explained(path):
        temporary.write_bytes(json_bytes(process_mark()))
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


def beats(path: Path, mark: Mapping[str, Any]) -> bool:
    """Tell by the file system's own clock whether a mark of another host is fresh.

    Clocks of hosts differ, and jump; a mark is stale only if both clocks say so.
    """
    if not mark.keys() >= NEEDED or mark["host"] == socket.gethostname():
        return False
    probe = temporary_beside(path)
    try:
        probe.touch()
        age = probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return True
    finally:
        probe.unlink(missing_ok=True)
    return age < SILENCE_SECONDS


def remove_stale(path: Path, mark: Mapping[str, Any]) -> None:
    """Take the mark of a dead process away; of many who want to, one does, and no fresh one goes.

    Whoever creates the token of this very mark may remove it, after a look whether it is still
    there. A token whose holder died is removed in the same way.
    """
    token = path.with_name(f".{digest([path.name, dict(mark)])[:16]}.json")
    if not put_mark(token):
        holder = mark_at(token)
        if holder is not None and not is_live(holder):
            remove_stale(token, holder)
        time.sleep(0.005)
        return
    try:
        if mark_at(path) == mark:
            path.unlink(missing_ok=True)
    finally:
        token.unlink(missing_ok=True)


def mark_at(path: Path) -> dict[str, Any] | None:
    """Read a mark; None: there is none. One that is damaged has nothing but its checksum."""
    try:
        return read_json(path)
    except Damaged:
        try:
            return {CHECKSUM: zlib.crc32(path.read_bytes())}
        except (FileNotFoundError, NotADirectoryError):
            return None
