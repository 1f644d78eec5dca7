"""`bench compare`: two rows, of one study or two, in one screen."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from bench.spec import Recipe
from bench.store import StudyFolder
from tests.command_line import call
from tests.synthetic_runs import (
    ACC_0_AUC_0,
    ACC_50_AUC_75,
    ACC_100_AUC_100,
    binary,
    failed,
    finished,
)


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path, "main").create()


def two_methods(study: StudyFolder, **changes: object) -> None:
    """Store ACC 100, 100, 50 of a and 50, 0, 50 of b, in three folds."""
    scores = {
        "a": (ACC_100_AUC_100, ACC_100_AUC_100, ACC_50_AUC_75),
        "b": (ACC_50_AUC_75, ACC_0_AUC_0, ACC_50_AUC_75),
    }
    for method, folds in scores.items():
        for fold, p in enumerate(folds):
            predictions = binary({"0": p, "1": p}, first_case=4 * fold)
            finished(study, predictions, method=method, fold=fold, n_folds=3, **changes)


def said(capsys: pytest.CaptureFixture[str], study: StudyFolder, *arguments: str) -> str:
    code = call("compare", *arguments, "--out", str(study.root))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def lines(capsys: pytest.CaptureFixture[str], study: StudyFolder, *arguments: str) -> dict:
    """Return the lines of the CSV by metric, row and column."""
    text = said(capsys, study, *arguments, "--format", "csv")
    return {
        (line["metric"], line["row"], line["condition"]): line
        for line in csv.DictReader(io.StringIO(text))
    }


def refused(capsys: pytest.CaptureFixture[str], study: StudyFolder, *arguments: str) -> str:
    assert call("compare", *arguments, "--out", str(study.root)) == 2
    return capsys.readouterr().err


def test_difference_interval_probability_and_p_are_given_per_condition_and_over_all(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    found = lines(capsys, study, "a", "b", "--metric", "ACC")
    assert float(found["ACC", "0", "a"]["mean"]) == pytest.approx(250 / 3)
    for row in ("0", "1", "AVG"):
        difference = found["ACC", row, "difference"]
        assert float(difference["mean"]) == pytest.approx(50.0)
        # t = 0.5 / sqrt((1/3 + 1/2) / 4) on 2 df: p = 1 - t / sqrt(2 + t^2)
        assert float(difference["p"]) == pytest.approx(0.38763, abs=1e-5)
        assert float(difference["p_adjusted"]) == 1.0  # Holm: three times that
        assert found["ACC", row, "p"]["text"] == "0.3876"
        # a is better in two folds and equal in one
        assert float(found["ACC", row, "superior"]["mean"]) == pytest.approx(2.5 / 3)
        # 4.302653 is the 97.5 % point of t on 2 df, the standard error 0.4564355
        assert found["ACC", row, "interval"]["text"].strip("'") == "-146.39 to 246.39"


def test_it_fits_one_screen_and_explains_itself(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    out = said(capsys, study, "a", "b")
    assert max(map(len, out.splitlines())) <= 100
    assert len(out.splitlines()) <= 30
    text = " ".join(out.split())
    assert "toy, training: complete: a against b" in text
    assert "A is a, B is b. P(A > B): share of folds in which A is better, ties half." in text
    assert "corrected resampled t (Nadeau and Bengio), two-sided, unit: 3 folds" in text
    assert "Interval: 95 %, not adjusted." in text


def test_one_repeat_has_no_interval_and_says_so(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, p in (("a", ACC_100_AUC_100), ("b", ACC_50_AUC_75)):
        finished(study, binary({"0": p}), method=method)
    text = said(capsys, study, "a", "b")
    assert "No interval." in text
    assert "95 %" not in text


def test_the_sides_can_be_swapped(study: StudyFolder, capsys: pytest.CaptureFixture[str]) -> None:
    two_methods(study)
    forth, back = (lines(capsys, study, *names) for names in (("a", "b"), ("b", "a")))
    for row in ("0", "1", "AVG"):
        key = ("AUC", row, "difference")
        assert float(forth[key]["mean"]) == pytest.approx(-float(back[key]["mean"]))
        assert forth[key]["p"] == back[key]["p"]


def test_one_method_in_two_studies_is_compared_and_its_differences_are_named(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    other = StudyFolder(study.root, "longer").create()
    two_methods(other, recipe=Recipe.model_validate({"epochs": 60}))
    out = " ".join(said(capsys, study, "a@main", "a@longer").split())
    assert "a@main against a@longer" in out
    assert "They differ in: recipe.epochs." in out
    found = lines(capsys, study, "b", "a@longer")
    assert float(found["ACC", "0", "difference"]["mean"]) == pytest.approx(-50.0)


def test_each_side_says_its_own_repeats_where_they_differ(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    longer = {"epochs": 60}
    other = StudyFolder(study.root, "longer").create()
    for seed in range(2):
        two_methods(other, recipe=Recipe.model_validate(longer), seed=seed)
    out = " ".join(said(capsys, study, "a@main", "a@longer").split())
    assert "A: Mean ± sample SD over 3 repeats (3 folds x 1 seed). B: Mean" in out
    assert "B: Mean ± sample SD over 6 repeats (3 folds x 2 seeds). A - B is over the folds" in out
    assert "reference a@main" in out
    assert "P(A > B): share of folds in which A is better" in out


def test_a_study_with_other_folds_is_not_paired_fold_by_fold(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    other = StudyFolder(study.root, "shifted").create()
    for fold in range(3):
        predictions = binary({"0": ACC_0_AUC_0}, first_case=4 * fold + 2)
        finished(other, predictions, method="b", fold=fold, n_folds=3)
    found = lines(capsys, study, "a", "b@shifted")
    assert found["ACC", "0", "p"]["text"] == "n.t."
    assert float(found["ACC", "0", "superior"]["mean"]) == 1.0
    out = " ".join(said(capsys, study, "a", "b@shifted").split())
    assert "share of pairs of folds in which A is better" in out
    assert "folds of one number have different test cases in the two rows" in out


def test_a_single_repeat_is_compared_but_not_tested(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(study, binary({"0": ACC_100_AUC_100}), method="a")
    finished(study, binary({"0": ACC_50_AUC_75}), method="b")
    found = lines(capsys, study, "a", "b")
    assert float(found["AUC", "0", "difference"]["mean"]) == pytest.approx(25.0)
    assert found["AUC", "0", "p"]["text"] == "n.t."
    assert found["AUC", "0", "interval"]["text"] == "-"
    text = " ".join(said(capsys, study, "a", "b").split())
    assert "Obuchowski-Rockette with 1 seed gives a corrected p of at least 1; 2 are" in text


def test_a_missing_condition_and_a_failed_side_are_dashes(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        both = {"0": ACC_50_AUC_75, "1": ACC_50_AUC_75}
        finished(study, binary(both), method="a", seed=seed)
        finished(study, binary({"0": ACC_100_AUC_100}), method="b", seed=seed)
        failed(study, "out of memory", method="c", seed=seed)
    found = lines(capsys, study, "a", "b")
    assert found["AUC", "1", "difference"]["text"] == "-"
    assert found["AUC", "1", "b"]["text"] == "-"
    assert float(found["AUC", "0", "difference"]["mean"]) == -25.0
    found = lines(capsys, study, "a", "c")
    assert {found["AUC", row, "difference"]["text"] for row in ("0", "1", "AVG")} == {"-"}


def test_two_datasets_have_tables_of_their_own(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study, dataset="x")
    two_methods(study, dataset="y")
    assert said(capsys, study, "a", "b").count("### ") == 2
    assert said(capsys, study, "a", "b", "--dataset", "y").count("### ") == 1


def test_what_cannot_be_compared_is_refused_in_one_line(
    study: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    two_methods(study)
    finished(study, binary({"0": ACC_50_AUC_75}), method="other", dataset="elsewhere")
    for arguments, reason in (
        (("a", "bb"), "no row of study main is named 'bb'"),
        (("a", "a"), "a cannot be compared with itself; name two rows"),
        (("a", "b@absent"), "no study is at"),
        (("a", "other"), "a and other share no table"),
        (("a", "b", "--dataset", "tyo"), "no dataset of this study is named 'tyo'"),
        (("a", "b", "--test", "t"), "no test is named 't'"),
        (("a", "b", "--format", "html"), "--format wants one of"),
    ):
        err = refused(capsys, study, *arguments)
        assert reason in err
        assert err.count("\n") == 1
