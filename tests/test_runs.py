"""Studies from the command line: nothing is trained twice, and what fails is a row with reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.request import Request
from bench.store import RunFolder, StudyFolder
from bench.study.planning import plan
from tests.command_line import PLUGINS, call, included, snapshot

ROOT = PLUGINS.parents[1]
SMALL = ("--folds", "0", "--set", "recipe.epochs=2", "--quiet")
ALONE = (*SMALL, "--no-floor")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def runs(study: str = "main") -> dict[str, RunFolder]:
    """Return the runs of a study by the start of their names: method, dataset, setting, repeat."""
    folders = StudyFolder(Path("results"), study).runs()
    return {folder.path.name.rpartition("-")[0]: folder for folder in folders}


def identities(**asked: object) -> list[str]:
    """Plan a study of concat without the floor and return the identities of its runs."""
    request = {"methods": ("concat:dropout",), "folds": (0,), "floor": False} | asked
    return [cell.spec.identity for cell in plan(Request(**request)).cells]


def test_a_finished_study_is_answered_from_the_store_without_torch(tmp_path: Path) -> None:
    asked = ["run", "--method", "concat", *SMALL, *included("singles")]
    assert call(*asked) == 0
    before = snapshot(tmp_path)
    script = (
        "import sys\nfrom bench.cli import main\n"
        f"try:\n    main({asked!r})\nexcept SystemExit as done:\n    assert not done.code\n"
        "heavy = {'torch', 'sklearn', 'bench.runner.runner', 'bench.methods'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "| concat:dropout " in done.stdout
    assert snapshot(tmp_path) == before


def test_a_limited_study_does_not_answer_for_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", "-m", "concat", *ALONE)
    assert call(*asked, "--limit", "1") == 0
    assert list(runs()) == ["concat-wdbc-complete-f0s0"]
    assert call(*asked) == 0
    assert list(runs()) == ["concat+dropout-wdbc-complete-f0s0", "concat-wdbc-complete-f0s0"]
    capsys.readouterr()
    assert call(*asked, "--limit", "1") == 0
    assert "concat:dropout" not in capsys.readouterr().out


def test_more_conditions_are_predicted_from_the_checkpoint() -> None:
    asked = ("run", "-m", "concat:dropout", *SMALL)
    assert call(*asked, *included("singles"), "-p", "singles") == 0
    first = {name: snapshot(folder.path) for name, folder in runs().items()}
    assert set(runs()["concat+dropout-wdbc-complete-f0s0"].predictions()["condition"]) == set("012")
    assert call(*asked) == 0
    assert call(*asked, "--study", "straight") == 0
    straight = runs("straight")
    for name, folder in runs().items():
        after = snapshot(folder.path)
        changed = {file for file in after if after[file] != first[name].get(file)}
        assert changed == {"predictions.parquet", "status.json"}
        assert (
            snapshot(straight[name].path)["predictions.parquet"][1]
            == (after["predictions.parquet"][1])
        )
        assert folder.status()["conditions"] == ["0", "1", "2", "01", "02", "12", "012"]


def test_a_condition_that_no_case_serves_is_a_dash_and_others_can_follow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["run", *included("planted", "first_alone"), "-d", "planted", "-m", "concat", *SMALL]
    asked += ["--set", "planted.pictures=false"]
    assert call(*asked, "-p", "first-alone") == 0
    assert "| concat | - |" in " ".join(capsys.readouterr().out.split())
    before = {name: folder.path_of("history.jsonl") for name, folder in runs().items()}
    trained = {name: path.read_bytes() for name, path in before.items() if path.exists()}
    assert call(*asked) == 0
    assert {name: before[name].read_bytes() for name in trained} == trained
    for folder in runs().values():
        assert folder.status()["conditions"] == ["0", "1", "2", "01", "02", "12", "012"]
        assert set(folder.predictions()["condition"]) == {"1", "2", "12"}


def test_every_case_is_scored_from_what_it_has_and_nothing_is_trained_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["run", *included("planted"), "-d", "planted", "-m", "concat", "-m", "simmlm", *SMALL]
    assert call(*asked) == 0
    histories = [folder.path_of("history.jsonl") for folder in runs().values()]
    trained = {path: path.read_bytes() for path in histories if path.exists()}
    capsys.readouterr()
    assert call(*asked, "--every-case") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "planted, All subsets (every case)" in text
    assert "given the class shares of training, by every method alike" in text
    assert {path: path.read_bytes() for path in trained} == trained
    for folder in runs().values():
        seen = folder.availability().query("condition == ''").set_index("case")
        test = seen[seen["part"] == "test"]
        found = folder.predictions().set_index("case")
        for subset, names in (("0", ["view"]), ("12", ["clinical", "genes"])):
            condition = f"{subset}-every"
            usual = found[found["condition"] == subset][["p_0", "p_1"]]
            every = found[found["condition"] == condition][["p_0", "p_1"]]
            assert sorted(every.index) == sorted(test.index)
            assert len(usual) < len(every)
            pd.testing.assert_frame_equal(every.loc[usual.index], usual, rtol=1e-5, atol=1e-6)
            empty = every.loc[test.index[~test[names].any(axis=1)]]
            draw = folder.status()["condition_gaps"][condition]
            assert draw.get("n_empty", 0) == len(empty)
            assert len(empty.drop_duplicates()) == (subset == "0")


def test_verbose_says_of_every_run_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", *included("explodes"), "-m", "pattern-only", "-m", "explodes", *ALONE]
    assert call(*asked, "--verbose") == 1
    out, err = capsys.readouterr()
    said = [line.partition(" ") for line in err.splitlines() if line.startswith(("ended", "fail"))]
    assert [kind for kind, _, _ in said] == ["ended:", "failed:"]
    assert all("-wdbc-complete-f0s0-" in rest for _, _, rest in said)
    assert re.search(r", \d+\.\d s$", said[0][2])
    assert "explodes" in out


def test_what_fails_is_a_row_with_its_reason_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    toys = ("explodes", "runs-to-nan", "declines")
    files = included("explodes", "runs_to_nan", "declines")
    asked = ["run", *files, *(part for toy in (*toys, "concat") for part in ("-m", toy)), *ALONE]
    assert call(*asked) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"failed: {folder.path.name}: {folder.reason()}"
        for folder in (runs()[f"{toy}-wdbc-complete-f0s0"] for toy in toys[:2])
    ]
    states = {name.partition("-wdbc")[0]: folder.status() for name, folder in runs().items()}
    assert {name: status["state"] for name, status in states.items()} == {
        "concat": "done",
        "concat+dropout": "done",
        "declines": "skipped",
        "explodes": "failed",
        "runs-to-nan": "failed",
    }
    assert states["explodes"]["error"] == "RuntimeError: the toy gives up"
    assert "in losses" in states["explodes"]["traceback"]
    assert states["runs-to-nan"]["error"].startswith(
        "loss term 'toy' is nan in stage 'train', epoch 1, step 2; "
    )
    assert states["declines"]["reason"] == "the toy takes no tables"
    words = " ".join(out.split())
    for part in (
        "| explodes [a] | failed |",
        "[a] failed: RuntimeError: the toy gives up",
        "| declines [c] | n/a |",
        "[c] n/a: the toy takes no tables",
    ):
        assert part in words


def test_a_method_that_declines_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("run", *included("declines"), "-m", "declines", *ALONE)
    assert call(*asked) == 0
    before = snapshot(Path("results"))
    capsys.readouterr()
    assert call(*(each for each in asked if each != "--quiet")) == 0
    said = capsys.readouterr().err.strip()
    assert said == (
        "0 runs carried out, 0 found finished, 1 not applicable; predictions are in results/main"
    )
    assert snapshot(Path("results")) == before


def test_a_failed_run_is_tried_again_and_the_finished_are_not() -> None:
    asked = ("run", *included("explodes"), "-m", "explodes", "-m", "concat:dropout", *ALONE)
    assert call(*asked) == 1
    done = runs()["concat+dropout-wdbc-complete-f0s0"].path
    before = snapshot(done)
    assert call(*asked) == 1
    assert snapshot(done) == before


def test_fail_fast_ends_the_study_at_the_first_failed_run() -> None:
    asked = ("run", *included("explodes"), "-m", "explodes", "-m", "concat:dropout", *ALONE)
    assert call(*asked, "--fail-fast") == 1
    assert list(runs()) == ["explodes-wdbc-complete-f0s0"]


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one() -> None:
    asked = ("run", "-m", "concat", *SMALL)
    assert call(*asked) == 0
    assert call(*asked, "--study", "parallel", "--jobs", "2") == 0
    parallel = runs("parallel")
    assert list(parallel) == list(runs())
    for name, folder in runs().items():
        for file in ("predictions.parquet", "availability.parquet"):
            assert (folder.path / file).read_bytes() == (parallel[name].path / file).read_bytes()


def test_a_file_of_the_user_is_a_row_of_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    plugin = PLUGINS / "gated_sum.py"
    assert len(plugin.read_text().splitlines()) < 70
    assert call("run", "--include", str(plugin), "-m", "gated-sum", "-m", "concat", *SMALL) == 0
    rows = [
        line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    assert rows.index("gated-sum") < rows.index("concat") < rows.index("logistic-meanfill")
    assert call("test", str(plugin)) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"recipe": {"epochs": 3}}},
        {"settings": {"concat": {"p_drop": 0.1}}},
        {"settings": {"encoder": {"d_attribute": 8}}},
        {"methods": ("concat:complete",)},
        {"folds": (1,)},
        {"seeds": (1,)},
        {"n_folds": 4},
        {"balance": "weights"},
        {"train_dropout": "none"},
        {"selection": "complete"},
        {"precision": "bf16"},
        {"datasets": ("digits",)},
        {"protocols": ("all-subsets",), "gaps": {"train_rate": 0.3}},
    ],
    ids=str,
)
def test_identity_follows_whatever_changes_the_numbers(changed: dict[str, object]) -> None:
    assert set(identities(**changed)).isdisjoint(identities())


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"recipe": {"epochs": 30}, "concat": {"p_drop": 0.5}}},  # the defaults
        {"threads": 2},
        {"out": "elsewhere", "study": "other"},
        {"protocols": ("singles",)},
        {"methods": ("pattern-only", "concat:dropout")},
        {"folds": (1, 0)},
    ],
    ids=str,
)
def test_identity_stays_when_the_numbers_stay(changed: dict[str, object]) -> None:
    asked = {"include": (str(PLUGINS / "singles.py"),), **changed}
    assert set(identities()) <= set(identities(**asked))


def test_identity_follows_the_code_and_not_its_words(tmp_path: Path) -> None:
    plugin = tmp_path / "gated_sum.py"
    text = (PLUGINS / "gated_sum.py").read_text()

    def identity(text: str) -> str:
        plugin.write_text(text)
        (found,) = identities(methods=("gated-sum",), include=(str(plugin),))
        return found

    first = identity(text)
    assert identity(text.replace("All values are our choice.", "Other words.")) == first
    assert identity(text.replace("  # (B, M), sums to 1", "")) == first
    assert identity(text.replace(".softmax(1)", ".sigmoid()")) != first


def test_a_study_keeps_every_request_in_its_file() -> None:
    assert call("run", "-m", "pattern-only", *ALONE) == 0
    assert call("run", "-m", "logistic-meanfill", *ALONE) == 0
    requests = json.loads(Path("results/main/study.json").read_text())["requests"].values()
    assert [entry["asked"]["methods"] for entry in requests] == [
        ["pattern-only"],
        ["logistic-meanfill"],
    ]
