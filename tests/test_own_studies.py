"""Studies on data of one's own, from the manifest to the table, with every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.registry import Registry
from bench.store import StudyFolder
from tests.command_line import call
from tests.own_data import kidney, reported, skin, volumes

TINY = (
    "recipe.epochs=1",
    "recipe.warmup_epochs=0",
    "recipe.d_model=8",
    "encoder.d_attribute=4",
    "encoder.image=test_resnet",
)
RUN = ("--folds", "0", "--quiet", *(part for pair in TINY for part in ("--set", pair)))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def states(study: str) -> dict[str, str]:
    """Return the state of each row of a study."""
    folders = StudyFolder(Path("results"), study).runs()
    return {folder.spec()["method"]: folder.state for folder in folders}


def n_columns(said: str) -> int:
    """Count the columns of the first metric, the average left out, over the parts of its table."""
    headers = [line for line in said.splitlines() if line.startswith("| ACC")]
    return sum(line.count("|") - 2 for line in headers) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "n_subsets"), [(volumes, 15), (reported, 3), (kidney, 15), (skin, 3)]
)
def test_every_method_takes_data_of_ones_own(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Path],
    n_subsets: int,
) -> None:
    pytest.importorskip("openpyxl")
    path = make(tmp_path / "data")
    methods = Registry().names("method")
    asked = [part for name in methods for part in ("-m", name)]
    assert call("run", "-d", str(path), *asked, "--no-floor", *RUN) == 0
    assert states("main") == dict.fromkeys(methods, "done")
    assert n_columns(capsys.readouterr().out) == n_subsets


def test_a_study_of_volumes_shows_the_name_of_its_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = volumes(tmp_path / "data", 12)
    asked = ("run", "-d", str(path), "-m", "logistic-specialist", "--no-floor", *RUN)
    assert call(*asked) == 0
    said = capsys.readouterr().out
    assert said.startswith("### men, All subsets")
    assert "0 = t1c, 1 = flair, 2 = adc, 3 = clinical" in " ".join(said.split())
    assert n_columns(said) == 15
    assert call(*asked) == 0  # answered from the store
    assert capsys.readouterr().out == said
    assert len(list(Path("results/main/runs").iterdir())) == 1


def test_a_manifest_may_be_the_dataset_of_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skin(tmp_path)
    (tmp_path / "study.yaml").write_text(
        "method: logistic-specialist\ndataset: skin.yaml\nfloor: false\nfolds: [0]\n"
        "datasets: {skin: {size: 8}}\n"
    )
    assert call("run", "--config", "study.yaml", "--quiet") == 0
    assert capsys.readouterr().out.startswith("### skin, All subsets")


def test_natural_gaps_of_a_workbook_are_those_of_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    asked = ("-m", "logistic-meanfill", "--no-floor", "-p", "natural", *RUN)
    assert call("run", "-d", str(path), *asked) == 0
    assert "### kidney, Natural gaps" in capsys.readouterr().out


def test_a_file_that_cannot_be_used_ends_the_study_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = skin(tmp_path)
    for k in range(24):
        (tmp_path / "pictures" / f"lesion{k}.png").write_bytes(b"no picture")
    asked = ("run", "-d", str(path), "-m", "logistic-specialist", "--no-floor", *RUN)
    assert call(*asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "lesions.csv, line " in line
