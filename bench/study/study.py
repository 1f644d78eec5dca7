"""What a study is, what is noted of the requests made of it, and what the store answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BadRequest
from bench.executor import Outcome
from bench.layout import Layout
from bench.registry import registry_of
from bench.request import Request
from bench.runner.cell import Cell, has
from bench.sources import stamp_of_code
from bench.spec import digest
from bench.store import StudyFolder


@dataclass(frozen=True)
class Study:
    """The cells of a request, the data files behind them, and the tables that they make."""

    cells: tuple[Cell, ...]
    files: tuple[tuple[str, int, int], ...]  # path, bytes, nanoseconds of the last change
    layouts: tuple[Layout, ...] = ()
    limit: int | None = None  # only the first cells of the request, so many

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "cells": [cell.to_json() for cell in self.cells],
            "files": list(self.files),
            "layouts": [layout.to_json() for layout in self.layouts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Study:
        """Rebuild a study that crossed a process border."""
        return cls(
            tuple(Cell.from_json(cell) for cell in value["cells"]),
            tuple((path, size, at) for path, size, at in value["files"]),
            tuple(Layout.from_json(layout) for layout in value["layouts"]),
        )


def joined(parts: Sequence[Study]) -> Study:
    """Put studies together; what they share appears once."""
    cells = {cell.spec.folder: cell for part in parts for cell in part.cells}
    files = dict.fromkeys(file for part in parts for file in part.files)
    layouts = dict.fromkeys(layout for part in parts for layout in part.layouts)
    return replace(
        parts[0], cells=tuple(cells.values()), files=tuple(files), layouts=tuple(layouts)
    )


def limited(study: Study, limit: int | None) -> Study:
    """Keep the first cells of a study.

    Raises:
        BadRequest: the limit is below one.
    """
    if limit is None:
        return study
    if limit < 1:
        raise BadRequest(f"--limit wants a number of runs from 1 on, got {limit}")
    return replace(study, cells=study.cells[:limit], limit=limit)


@dataclass(frozen=True)
class Answer:
    """A study that is over: its folders in order, and how many cells did what."""

    folders: tuple[str, ...]
    n_trained: int
    n_found: int
    failed: tuple[Outcome, ...]
    layouts: tuple[Layout, ...]
    n_left: int = 0  # cells that go on without this process
    mended: tuple[str, ...] = ()  # what was damaged of finished runs, which were carried out again


def request_key(request: Request, limit: int | None) -> str:
    """Return a key that changes with the request, the first-party code and the user's plugins.

    Raises:
        BadRequest: what is to be included is not there.
    """
    elsewhere = {"out", "study", "data_root", "checkpoint_every", "keep_checkpoints"}
    asked = request.model_dump(mode="json", exclude=elsewhere)
    asked["data_root"] = str(Path(request.data_root).resolve()) if request.data_root else ""
    code = stamp_of_code(registry_of(request.include, request.override).include)
    return digest({"request": asked, "limit": limit, "code": code})


def stored_answer(request: Request, study: StudyFolder, limit: int | None) -> Answer | None:
    """Answer a request from the store alone, or return None; no plugin and no torch is imported.

    Raises:
        BadRequest: what is to be included is not there.
    """
    known = study.read_json("study.json").get("requests", {}) if study.has("study.json") else {}
    entry = known.get(request_key(request, limit))
    if entry is None or any(stamp_of_file(path) != [size, at] for path, size, at in entry["files"]):
        return None
    for name, conditions in entry["cells"]:
        folder = study.run_named(name)
        keeps = request.keep_representations
        if folder.state != "skipped" and not has(folder, conditions, keeps=keeps):
            return None
    folders = tuple(name for name, _ in entry["cells"])
    layouts = tuple(Layout.from_json(layout) for layout in entry["layouts"])
    return Answer(folders, 0, len(folders), (), layouts)


def note(request: Request, planned: Study, study: StudyFolder) -> None:
    """Write down in a study what was asked of it, and what that came to."""
    known = study.read_json("study.json") if study.has("study.json") else {"requests": {}}
    known["requests"][request_key(request, planned.limit)] = {
        "asked": request.model_dump(mode="json"),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cells": [
            [cell.spec.folder, [condition["name"] for condition in cell.conditions]]
            for cell in planned.cells
        ],
        "files": [list(each) for each in planned.files],
        "layouts": [layout.to_json() for layout in planned.layouts],
    }
    study.write_json("study.json", known)


def stamp_of_file(path: str) -> list[int] | None:
    """Return size and time of a file, None if it is not there."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
