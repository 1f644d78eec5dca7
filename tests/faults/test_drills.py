"""Each fault ends in one clear line or a failed row with its reason; nothing finished is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.drills import DRILLS, STUDY, Drill, Unavailable
from tests.faults.process import bench, litter, predictions


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the predictions of the study that meets no fault."""
    folder = tmp_path_factory.mktemp("straight")
    said = bench(folder, *STUDY)
    assert said.code == 0, said.err
    return predictions(folder)


@pytest.mark.slow
@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.fault)
def test_a_fault_ends_clearly_and_loses_nothing(
    tmp_path: Path, straight: dict[str, bytes], drill: Drill
) -> None:
    folder = tmp_path / "study"
    try:
        seen = drill.make(folder)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert seen.said.code == drill.code, seen.said.err
    assert drill.says in seen.line
    assert "Traceback" not in seen.said.err
    assert seen.healed is not None
    assert seen.healed.code == 0, seen.healed.err
    if drill.command is STUDY:
        assert predictions(folder) == straight
        assert litter(folder) == []
