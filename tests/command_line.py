"""Call the command line in this process, with the plugins of `tests/plugins`."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
