"""Probabilities of new cases from a finished run, and what a reader must know of them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store import StudyFolder
from tests.command_line import call, included, snapshot
from tests.own_data import skin

TRAIN = ("-d", "planted", "--folds", "0", "--no-floor", "--quiet", "--set", "recipe.epochs=1")
METHODS = ("concat:", "logistic-meanfill")
NEW = ("-d", "unlabelled", *included("unlabelled"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a deep and a shallow method on cases with gaps."""
    root = tmp_path_factory.mktemp("results")
    asked = ["run", *(part for each in METHODS for part in ("-m", each)), *TRAIN]
    assert call(*asked, "-p", "natural", *included("planted"), "--out", str(root)) == 0
    return root


def predict(root: Path, run: str, *arguments: str) -> int:
    return call("predict", run, "--out", str(root), *arguments)


def parsed(text: str) -> tuple[dict[str, str], pd.DataFrame]:
    """Take a CSV file apart: the comments, and the table."""
    comments = [line[2:].partition(": ") for line in text.splitlines() if line.startswith("# ")]
    table = "".join(line for line in text.splitlines(True) if not line.startswith("# "))
    frame = pd.read_csv(io.StringIO(table), dtype={"case": str, "available": str})
    return {key: value for key, _, value in comments}, frame.fillna({"predicted": ""})


@pytest.mark.parametrize("method", ["concat", "logistic-meanfill"])
def test_a_known_case_is_predicted_as_the_run_predicted_it(
    root: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(root)
    assert predict(root, method) == 0
    header, frame = parsed(capsys.readouterr().out)
    (folder,) = (run for run in StudyFolder(root, "main").runs() if method in run.path.name)
    stored = folder.predictions()
    joined = stored.merge(frame, on="case")
    assert len(joined) == len(stored) == 18
    for ours, theirs in (("p_benign", "p_0"), ("p_malignant", "p_1")):
        np.testing.assert_allclose(joined[ours], joined[theirs], atol=1e-5)
    assert header["named as training or validation cases"] == "36 cases"
    assert snapshot(root) == before


@pytest.mark.parametrize("method", ["concat", "logistic-meanfill"])
def test_new_cases_need_no_label_and_may_lack_anything(
    root: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, method, *NEW) == 0
    header, frame = parsed(capsys.readouterr().out)
    assert frame["case"].tolist() == ["new0", "new1", "new2", "=new3"]
    assert frame["available"].fillna("").tolist() == ["012", "1", "2", ""]
    proba = frame[["p_benign", "p_malignant"]]
    np.testing.assert_allclose(proba.sum(axis=1)[:3], 1, atol=1e-5)
    assert proba.iloc[3].isna().all()
    assert frame["predicted"].tolist()[3] == ""
    best = proba.iloc[:3].to_numpy().argmax(1)
    assert frame["predicted"].tolist()[:3] == [("benign", "malignant")[k] for k in best]
    assert header["new cases"] == "4 of unlabelled"
    assert header["without any modality"] == "1 case, not predicted"
    assert header["named as training or validation cases"] == "0 cases"


def test_the_head_says_what_the_run_was_trained_on_and_which_patterns_it_has_seen(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, "concat", *NEW) == 0
    header, _ = parsed(capsys.readouterr().out)
    assert header["trained on"] == "planted, fold 0 of 3, seed 0"
    assert header["training setting"].startswith("complete: ")
    assert header["modalities dropped in training"] == "none"
    assert header["modalities"] == "0 = view; 1 = clinical; 2 = genes"
    (folder,) = (run for run in StudyFolder(root, "main").runs() if "concat" in run.path.name)
    frame = folder.availability()
    train = frame[frame["part"] == "train"][["view", "clinical", "genes"]]
    n_complete = int(train.all(axis=1).sum())
    assert f"012 (view+clinical+genes) {n_complete}" in header["patterns in training"]
    assert header["patterns of the new cases"].count(";") == 2


def test_a_parquet_file_has_the_same_and_its_head_in_the_metadata(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyarrow import parquet

    assert predict(root, "concat", *NEW) == 0
    header, frame = parsed(capsys.readouterr().out)
    csv, target = tmp_path / "new.csv", tmp_path / "new.parquet"
    assert predict(root, "concat", *NEW, "--to", str(target)) == 0
    assert predict(root, "concat", *NEW, "--to", str(csv)) == 0
    assert capsys.readouterr().out == ""
    table = parquet.read_table(target)
    assert json.loads(table.schema.metadata[b"bench"]) == header
    np.testing.assert_allclose(table.to_pandas()["p_benign"], frame["p_benign"], atol=1e-5)
    assert parsed(csv.read_text())[0] == header


def test_a_run_is_named_by_its_folder_too(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = (run for run in StudyFolder(root, "main").runs() if "concat" in run.path.name)
    assert call("predict", str(folder.path), *NEW, "--out", str(tmp_path)) == 0
    assert parsed(capsys.readouterr().out)[0]["run"] == folder.path.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("name", "modalities view, clinical, genes, not picture, clinical, genes"),
        ("attribute", "clinical.size, where the new cases have genes"),
        ("kind", "attributes of clinical that are numeric, categorical, numeric"),
        ("width", "genes of width 4, not 5"),
        ("classes", "classes benign, malignant, not a, b"),
    ],
)
def test_cases_of_another_kind_are_refused_in_one_line(
    root: Path, change: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, "concat", *NEW, "--set", f"unlabelled.change={change}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nobody",), "no run of study"),
        (("concat", "--to", "new.xlsx"), ".csv or .parquet"),
        (("concat", "-d", "planted", "--data", "new.yaml"), "exclude each other"),
        (("concat", "--set", "wdbc.size=3"), "no section of settings here is named 'wdbc'"),
        (("concat", "--data", "nowhere.yaml"), "nowhere.yaml"),
        (("concat", "--data", "heart"), "a dataset by name is --dataset NAME"),
    ],
)
def test_a_wrong_request_is_one_line(
    root: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_an_unfinished_run_has_nothing_to_predict_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.synthetic_runs import failed

    failed(StudyFolder(tmp_path, "main").create(), "out of memory")
    assert predict(tmp_path, "concat") == 2
    assert "out of memory" in capsys.readouterr().err


@pytest.fixture(scope="module")
def skin_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train on one's own lesions, all of which have a label."""
    root = tmp_path_factory.mktemp("own")
    asked = ("run", "-d", str(skin(root)), "-m", "logistic-meanfill", "--folds", "0", "--no-floor")
    assert call(*asked, "--quiet", "--out", str(root / "results")) == 0
    return root


def new_lesions(root: Path, folder: Path, dropped: Sequence[str], blank: Sequence[str]) -> Path:
    """Write two lesions beside a manifest that is the run's; return it."""
    table = pd.read_csv(root / "lesions.csv", dtype=str).head(3)
    table["lesion"] = ["new0", "new1", "new2"]
    table[[*blank]] = ""
    table.loc[2, ["picture", "age", "sex", "site"]] = ""
    folder.mkdir()
    (folder / "pictures").symlink_to(root / "pictures")
    table.drop(columns=[*dropped]).to_csv(folder / "lesions.csv", index=False)
    manifest = folder / "new.yaml"
    manifest.write_text((root / "skin.yaml").read_text() + "allow_outside: true\n")
    return manifest


@pytest.mark.parametrize(
    ("dropped", "blank", "without"),
    [
        ((), ("diagnosis",), ""),
        (("diagnosis",), (), ""),
        (("diagnosis", "patient"), (), ""),
        (("diagnosis", "patient"), (), "label: diagnosis\ngroup: patient\n"),
    ],
)
def test_cases_of_ones_own_are_predicted_without_labels(
    skin_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dropped: Sequence[str],
    blank: Sequence[str],
    without: str,
) -> None:
    manifest = new_lesions(skin_root, tmp_path / "new", dropped, blank)
    text = manifest.read_text()
    assert without in text
    manifest.write_text(text.replace(without, ""))
    assert predict(skin_root / "results", "logistic", "--data", str(manifest)) == 0
    _, frame = parsed(capsys.readouterr().out)
    assert frame["case"].tolist() == ["new0", "new1", "new2"]
    assert frame["predicted"].tolist()[2] == ""
    assert set(frame["predicted"][:2]) <= {"benign", "malignant"}


@pytest.mark.parametrize("missing", ["", "pictures/not-taken.png"])
def test_new_cases_may_all_lack_a_picture(
    skin_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    manifest = new_lesions(skin_root, tmp_path / "new", ["diagnosis"], [])
    table = pd.read_csv(manifest.with_name("lesions.csv"), dtype=str).head(2)
    table.assign(picture=missing).to_csv(manifest.with_name("lesions.csv"), index=False)
    manifest.write_text(manifest.read_text() + "missing_files: absent\n")
    assert predict(skin_root / "results", "logistic", "--data", str(manifest)) == 0
    _, frame = parsed(capsys.readouterr().out)
    assert frame["available"].tolist() == ["1", "1"]


def test_the_table_of_the_new_cases_is_not_written_over(
    skin_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = new_lesions(skin_root, tmp_path / "new", ["diagnosis"], [])
    table = manifest.with_name("lesions.csv")
    before = table.read_bytes()
    asked = ("--data", str(manifest), "--to", str(table))
    assert predict(skin_root / "results", "logistic", *asked) == 2
    assert "lesions.csv' is a file of the cases themselves; name another" in capsys.readouterr().err
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("dropped", "blank", "without", "said"),
    [
        (
            (),
            ("diagnosis",),
            "",
            "line 2: diagnosis is blank; it must be filled, in a run (3 such cases);",
        ),
        (("diagnosis",), (), "", "line 3: label: no column of lesions.csv is named 'diagnosis'"),
        ((), (), "label: diagnosis\n", "the key 'label' is missing; add label: ..."),
    ],
)
def test_a_run_needs_the_labels_that_a_prediction_does_not(
    skin_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dropped: Sequence[str],
    blank: Sequence[str],
    without: str,
    said: str,
) -> None:
    manifest = new_lesions(skin_root, tmp_path / "new", dropped, blank)
    manifest.write_text(manifest.read_text().replace(without, ""))
    assert call("run", "-m", "concat", "-d", str(manifest), "--out", str(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
