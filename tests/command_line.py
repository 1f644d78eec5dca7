"""Call the command line in this process, with the plugins of `tests/plugins`."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main

PLUGINS = Path(__file__).parent / "plugins"


def call(*arguments: str) -> int:
    """Run `bench ARGUMENTS` and return the exit code."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    code = exit_.value.code
    assert isinstance(code, int)
    return code


def included(*names: str) -> list[str]:
    """Return the options that include these plugins."""
    return [part for name in names for part in ("--include", str(PLUGINS / f"{name}.py"))]


def write_toy_release(root: Path) -> None:
    """Write the files of the dataset `toy-release`: 30 cases of an age and a picture."""
    (root / "pictures").mkdir(parents=True)
    lines = ["case,label,age"]
    for case in range(30):
        lines.append(f"c{case},{'malignant' if case % 2 else 'benign'},{40 + case}")
        Image.new("L", (8, 8), 8 * case).save(root / "pictures" / f"c{case}.png")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
