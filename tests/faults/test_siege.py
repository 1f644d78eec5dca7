"""Processes are killed at random moments: no cell is lost, none is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.siege import N_CELLS, Siege


@pytest.mark.slow
def test_no_cell_is_lost_or_doubled_by_thirty_kills(tmp_path: Path) -> None:
    siege = Siege(tmp_path / "attacked", n_kills=30)
    siege.run()
    report = siege.report(tmp_path / "straight")
    print(report)
    assert report["kills"] == 30
    assert report["cells"] == N_CELLS
    for name in (
        "cells lost", "cells doubled", "predictions that differ", "tables that differ",
        "files left over",
    ):  # fmt: skip
        assert report[name] == 0, (name, report)
