"""Find files whose names the disk spells in another form of Unicode: é as one letter or as two.

A disk that was filled from a Mac may hold é as an e and an accent, where a table has one letter.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.dataset.tables import composed
from bench.errors import BadData


class SpelledPaths:
    """Paths below a root, as the disk spells them; each folder is listed once, where needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, said: str) -> Path:
        """Return the path that was said, as it was said where nothing is there.

        Raises:
            BadData: two names of a folder are the one that was said; both are named.
        """
        path = self.root
        for part in Path(said).parts:
            path /= part if part.isascii() else self._spelled(path, part)
        return path

    def _spelled(self, folder: Path, part: str) -> str:
        names = self._names(folder).get(composed(part), [part])
        if len(names) > 1:
            first, second = map(ascii, sorted(names)[:2])  # on the screen they look the same
            raise BadData(
                f"{folder} holds {first} and {second}, one name in two forms of Unicode; rename "
                "or remove one of them"
            )
        return names[0]

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            listed: dict[str, list[str]] = {}
            for name in _names_in(folder):
                listed.setdefault(composed(name), []).append(name)
            self._listed[folder] = listed
        return self._listed[folder]


def _names_in(folder: Path) -> list[str]:
    """List a folder, without names where it is none or may not be listed."""
    try:
        return [name for name in os.listdir(folder) if not name.isascii()]
    except OSError:
        return []
