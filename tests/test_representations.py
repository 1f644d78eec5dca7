"""Representations of the test cases: kept on request, read back, measured, laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BadData
from bench.runner.representations import Represented, embed, is_constant, read, separation
from bench.runner.representing import _mean
from bench.store import RunFolder, StudyFolder
from tests.command_line import call, included, snapshot
from tests.synthetic_runs import ACC_100_AUC_100, binary, finished

ALONE = ("--folds", "0", "--set", "recipe.epochs=2", "--quiet")
KEEP = "--keep-representations"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def runs() -> dict[str, RunFolder]:
    """Return the runs of the study by row."""
    folders = StudyFolder(Path("results"), "main").runs()
    return {folder.path.name.partition("-wdbc")[0]: folder for folder in folders}


def blobs(n: int = 60, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return two classes, ten deviations apart: (n, width) and (n,)."""
    label = np.arange(n) % 2
    noise = np.random.default_rng(0).normal(size=(n, width))
    return noise + 10 * label[:, None], label


# --- in runs ----------------------------------------------------------------------------------


def test_asked_later_they_are_added_to_a_finished_run_and_nothing_is_trained() -> None:
    asked = ("run", "-m", "cmml", *ALONE, *included("singles"))
    assert call(*asked, "-p", "singles") == 0
    before = {row: snapshot(folder.path) for row, folder in runs().items()}
    assert call(*asked, "-p", "singles", KEEP) == 0
    for row, folder in runs().items():
        after = snapshot(folder.path)
        changed = {name for name in after if after[name] != before[row].get(name)}
        kept = {"representations.npz"} if row == "cmml" else set()
        assert changed == {"status.json"} | kept
        assert folder.kept_conditions() == ["0", "1", "2"]
    assert list(read(runs()["cmml"].representations())) == ["0", "1", "2"]


def test_they_have_a_vector_per_case_and_condition_and_per_completed_modality() -> None:
    assert call("run", "-m", "cmml", "-m", "concat:", *ALONE, "--no-floor", KEEP) == 0
    found = read(runs()["cmml"].representations())
    assert list(found) == ["0", "1", "2", "01", "02", "12", "012"]
    predicted = runs()["cmml"].predictions()
    for condition, each in found.items():
        n = len(each.case)
        assert each.fused is not None
        assert each.fused.shape == (n, 64)
        assert {m: values.shape for m, values in each.completed.items()} == dict.fromkeys(
            range(3), (n, 64)
        )
        assert each.available.all(0).tolist() == [str(m) in condition for m in range(3)]
        part = predicted[predicted["condition"] == condition]
        assert each.case.tolist() == part["case"].tolist()
        assert each.label.tolist() == part["label"].tolist()
    here, alone = found["012"].completed[0], found["0"].completed[0]
    np.testing.assert_allclose(here, alone, atol=1e-5)  # what a case has is not completed
    assert np.abs(here - found["12"].completed[0]).max() > 1e-3
    assert all(not each.completed for each in read(runs()["concat"].representations()).values())


def test_with_all_kept_a_request_is_answered_from_the_store() -> None:
    asked = ("run", "-m", "concat:", *ALONE, "--no-floor", KEEP)
    assert call(*asked) == 0
    before = snapshot(Path("results"))
    assert call(*asked) == 0
    assert snapshot(Path("results")) == before


def test_a_dry_run_says_that_they_are_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", "-m", "concat:", *ALONE, "--no-floor")
    assert call(*asked) == 0
    capsys.readouterr()
    assert call(*asked, "--dry-run") == 0
    assert "1 run, 0 to do" in capsys.readouterr().out
    assert call(*asked, "--dry-run", KEEP) == 0
    assert "1 run, 1 to do" in capsys.readouterr().out


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = finished(StudyFolder(tmp_path, "main").create(), binary({"0": ACC_100_AUC_100}))
    assert folder.representations() == {}
    folder.add_representations({"fused/0": np.zeros((4, 2))}, ["0"])
    assert folder.representations()["fused/0"].shape == (4, 2)
    folder.path_of("representations.npz").write_bytes(b"not a zip file")
    with pytest.raises(BadData, match=r"representations\.npz"):
        folder.representations()


# --- vectors ----------------------------------------------------------------------------------


def test_tokens_are_averaged_over_those_there_or_over_all_that_were_made() -> None:
    tokens = torch.tensor([[[1.0], [3.0]], [[1.0], [3.0]]])
    valid = torch.tensor([[True, False], [False, False]])
    mean = _mean(tokens, valid, torch.tensor([True, False]))
    assert mean.tolist() == [[1.0], [2.0]]
    pooled = _mean(tokens[:, :1], valid, torch.tensor([True, False]))
    assert pooled.tolist() == [[1.0], [1.0]]


def test_arrays_are_sorted_back_by_condition() -> None:
    one = np.ones((1, 2), np.float32)
    case, label, available = np.array(["c"]), np.array([1]), np.array([[True, False]])
    kept = Represented(case, label, available, None, {1: one})
    found = read(kept.arrays("30 % / mar") | kept.arrays("0"))
    assert list(found) == ["30 % / mar", "0"]
    assert found["0"].fused is None
    assert list(found["0"].completed) == [1]
    assert found["30 % / mar"].case.tolist() == ["c"]


def test_classes_far_apart_are_told_apart_and_mixed_ones_are_not() -> None:
    values, label = blobs()
    apart = separation(values, label)
    assert apart.silhouette > 0.8
    assert apart.knn_accuracy == 1.0
    assert apart.largest_class == 0.5
    mixed = separation(values, np.random.default_rng(1).permutation(label))
    assert abs(mixed.silhouette) < 0.1
    assert mixed.knn_accuracy < 0.75


@pytest.mark.parametrize("n_positive", [0, 1])
def test_one_class_or_few_cases_have_no_separation(n_positive: int) -> None:
    label = np.array([0] * 9 + [1] * n_positive)[: 9 if n_positive else 12]
    found = separation(np.random.default_rng(0).normal(size=(len(label), 3)), label)
    assert np.isnan([found.silhouette, found.knn_accuracy]).all()


def test_a_guess_that_is_the_same_for_all_cases_is_constant() -> None:
    assert is_constant(np.full((5, 3), 0.1, np.float32))
    assert is_constant(np.zeros((5, 3)))
    assert not is_constant(blobs()[0])


def test_the_plane_keeps_classes_apart_and_is_the_same_each_time() -> None:
    values, label = blobs()
    plane = embed(values)
    assert plane.shape == (60, 2)
    assert separation(plane, label).knn_accuracy == 1.0
    np.testing.assert_array_equal(plane, embed(values))


def test_equal_vectors_have_a_place_in_the_plane_too() -> None:
    assert np.isfinite(embed(np.zeros((12, 4)))).all()
