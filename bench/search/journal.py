"""The file that a search is kept in: a row for each thing that Optuna says, with a checksum.

Optuna brings a file of its own, whose rows have none: a flipped digit of a score would read as
well, and what follows a row that was cut off could not be read. The rows are the same, but for the
checksum, and Optuna can read them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bench.files import damaged, explained, row_bytes, row_of, unreadable

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

DELETED = "delete it to have the search made once more, its runs are found in the store"


class FileLock:
    """A lock between processes that the system releases when its holder dies."""

    def __init__(self, path: Path):
        self.path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Wait for the lock and take it."""
        with explained(self.path):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the lock back."""
        assert self._file is not None
        os.close(self._file)  # which unlocks
        self._file = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


class Journal:
    """The rows of a search; it has the two methods that Optuna wants of what keeps them."""

    def __init__(self, path: Path):
        self.path = path
        self.lock = FileLock(path.with_name(f"{path.name}.lock"))
        self._ends = [0]  # at which byte each row that was read begins

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the rows from one on, without a last one that is cut off or being written.

        Args:
            log_number_from: 0, or one after a row that was read.

        Raises:
            BadData: the system does not let the file be read, or, as Damaged, a row is not as it
                was written; names the file.
        """
        del self._ends[log_number_from + 1 :]
        if not self.path.exists():
            return
        with unreadable(self.path, DELETED), self.path.open("rb") as file:
            file.seek(self._ends[-1])
            for line in file:
                if not line.endswith(b"\n"):
                    return
                row = row_of(line)
                if row is None:
                    raise damaged(self.path, f"row {len(self._ends)}", DELETED)
                self._ends.append(self._ends[-1] + len(line))
                yield row

    def append_logs(self, logs: Sequence[Mapping[str, Any]]) -> None:
        """Write rows in place of what a process that died left of one.

        Raises:
            BadRequest: the file cannot be written; names it.
        """
        with self.lock.held(), explained(self.path), self.path.open("a+b") as file:
            _cut_off(file)
            file.write(b"".join(map(row_bytes, logs)))
            file.flush()
            os.fsync(file.fileno())


def _cut_off(file: BinaryIO) -> None:
    """Remove a last row that is not whole, which a row behind it would make unreadable."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if size and file.read() != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def open_journal(path: Path) -> optuna.storages.BaseStorage:
    """Open the journal of a search, which need not be there, for Optuna.

    Raises:
        Damaged: it cannot be read as it was written; names it.
    """
    import optuna

    try:
        return optuna.storages.JournalStorage(Journal(path))  # type: ignore[arg-type]
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # no checksum: an old one
        raise damaged(path, str(error)[:160], DELETED) from error


def trials_in(path: Path, name: str) -> Sequence[FrozenTrial]:
    """Read the trials of a search without writing anything; none if it has no journal.

    Raises:
        Damaged: it cannot be read as it was written; names it.
    """
    storage = open_journal(path)
    try:
        return storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    except KeyError:
        return []
