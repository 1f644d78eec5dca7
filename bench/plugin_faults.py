"""Whose fault an error is: one that passed through a user's own plugin file is that file's."""

from __future__ import annotations

import traceback
from pathlib import Path

from bench.errors import BadPlugin, reason_for
from bench.plugin_file import shown_path

INCLUDED = "bench_include_"  # how the packages begin that stand for included folders


def place_in_plugin(error: BaseException) -> str:
    """Return `file.py:12`, the innermost line of an included file that an error passed; or ""."""
    places = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").startswith(INCLUDED)
    ]
    if not places:
        return ""
    path, line = places[-1]
    return f"{shown_path(path)}:{line}"


def fault_of_plugin(error: BaseException) -> BadPlugin | None:
    """Word an error as the fault of the included file that it passed through; None: it is ours."""
    place = place_in_plugin(error)
    return BadPlugin(f"{place}: {reason_for(error)}; mend that plugin") if place else None
