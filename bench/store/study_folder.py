"""A study on disk: its request, its runs, its reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BadRequest, Damaged
from bench.files import (
    atomic_path,
    atomic_write,
    explained,
    json_bytes,
    read_json,
    remove_leftovers,
)
from bench.spec import RunSpec, canonical_json
from bench.store.run_files import RUNNING
from bench.store.run_folder import RunFolder


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

    def requests(self) -> list[dict[str, Any]]:
        """Return the notes of what was asked, in the order of asking.

        The same request asked again, after an edit of the code, takes the place of the first.
        """
        known = self.read_json("study.json")["requests"] if self.has("study.json") else {}
        latest = {canonical_json(entry.get("asked", entry)): entry for entry in known.values()}
        return list(latest.values())

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
