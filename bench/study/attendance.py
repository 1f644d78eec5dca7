"""Which processes coordinate work on a study, from before they plan it until they end.

Each keeps a note of itself in the study's folder, so that `bench cancel` finds it while no run is
at work. The note of a process that was killed is left out, and removed by the next one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.errors import BadData
from bench.store import StudyFolder
from bench.store.claims import is_live, process_mark

SUFFIX = ".coordinator"  # of a note, which is JSON


@contextmanager
def noted(study: StudyFolder) -> Iterator[None]:
    """Note for a block that this process works on a study; a folder that stays empty goes again.

    Raises:
        BadRequest: the folder of the study cannot be written.
    """
    made = [path for path in (study.path, *study.path.parents) if not path.exists()]
    name = f"{socket.gethostname()}-{os.getpid()}{SUFFIX}"
    try:
        study.write_json(name, process_mark())
        _forget_the_dead(study)
        yield
    finally:
        with suppress(OSError):  # the last: a folder holds something
            (study.path / name).unlink(missing_ok=True)
            for path in made:
                path.rmdir()


def attending(study: StudyFolder) -> list[dict[str, Any]]:
    """Return the marks of the processes that work on a study, as `process_mark` made them."""
    marks = [_mark_in(study, path) for path in _notes(study)]
    return [mark for mark in marks if mark is not None and is_live(mark)]


def _notes(study: StudyFolder) -> list[Path]:
    return [path for path in study.path.glob(f"*{SUFFIX}") if ".tmp" not in path.suffixes]


def _mark_in(study: StudyFolder, path: Path) -> dict[str, Any] | None:
    try:
        return study.read_json(path.name)
    except BadData:  # damaged, or its process has just ended
        return None


def _forget_the_dead(study: StudyFolder) -> None:
    """Remove the notes of processes of this host that have ended, and those nobody can read."""
    here = socket.gethostname()
    for path in _notes(study):
        mark = _mark_in(study, path)
        if mark is None or (mark.get("host", here) == here and not is_live(mark)):
            path.unlink(missing_ok=True)
