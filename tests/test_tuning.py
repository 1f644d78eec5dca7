"""Searches: the same trials, none lost or doubled, whoever dies; and never a look at the test."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli import main
from bench.request import Request
from bench.search.space import Configuration, Space, Suggestions
from bench.spec import Recipe
from bench.store import StudyFolder
from bench.tuning.importance import view_drawings
from bench.tuning.results import SearchResult, stored_searches
from bench.tuning.tuning import overhead
from tests.command_line import PLUGINS, call, included, snapshot

TOY = (*included("tunable"), "-m", "tunable", "--set", "recipe.epochs=1", "--quiet")
ONE_FOLD = (*TOY, "--folds", "0")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def searches(study: str = "tuning") -> list[SearchResult]:
    return stored_searches(StudyFolder(Path("results"), study))


def the_search(study: str = "tuning") -> SearchResult:
    (found,) = searches(study)
    return found


def trials(study: str = "tuning") -> list[tuple[dict[str, Any], float | None]]:
    """Return parameters and value of the trials of the only search."""
    return [(each.params, each.value) for each in the_search(study).trials]


def run_names(study: str = "tuning") -> list[str]:
    return [run.path.name for run in StudyFolder(Path("results"), study).runs()]


# --- the command ------------------------------------------------------------------------------


def test_a_search_ends_with_its_table_figure_and_best_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *ONE_FOLD, "--trials", "3") == 0
    out = capsys.readouterr().out
    assert "| tunable, fold 0 " in out
    assert "no trial reads a test case" in " ".join(out.split())
    first, *others = the_search().trials
    assert first.user_attrs["default"]
    assert first.params == {"p_drop": 0.5, "recipe.lr": 1e-3, "recipe.weight_decay": 1e-4}
    assert len(others) == 2
    assert Path("results/tuning/reports/tuning-wdbc-all-subsets.png").stat().st_size > 5000
    best = the_search().best
    assert best is not None
    assert best.value == max(each.value or 0.0 for each in the_search().trials)
    file = yaml.safe_load(Path("results/tuning/tuned/tunable-wdbc-all-subsets.yaml").read_text())
    assert file["by_fold"][0]["tunable"]["p_drop"] == best.params["p_drop"]
    assert file["by_fold"][0]["recipe"]["lr"] == best.params["recipe.lr"]


def test_asked_twice_nothing_is_trained_and_more_trials_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    out = capsys.readouterr().out
    before = snapshot(Path("results/tuning/runs"))
    journal = next(Path("results/tuning/searches").glob("*.journal")).read_bytes()
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    assert capsys.readouterr().out == out
    assert snapshot(Path("results/tuning/runs")) == before
    assert next(Path("results/tuning/searches").glob("*.journal")).read_bytes() == journal
    assert call("tune", *ONE_FOLD, "--trials", "4") == 0
    assert len(trials()) == 4
    assert call("tune", *ONE_FOLD, "--trials", "4", "--study", "straight") == 0
    assert trials() == trials("straight")


def test_a_trial_is_a_run_per_repeat_without_test_predictions() -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2", "--seeds", "0-1") == 0
    result = the_search()
    names = [name for each in result.trials for name in each.user_attrs["runs"]]
    assert sorted(names) == run_names()
    assert len(names) == 4
    for trial in result.trials:
        scores = [
            result.search.study.run_named(name).status()["valid_score"]
            for name in trial.user_attrs["runs"]
        ]
        assert trial.user_attrs["scores"] == scores
        assert trial.value == sum(scores) / 2
    assert all(len(run.predictions()) == 0 for run in result.search.study.runs())


@pytest.mark.parametrize("name", ["spec.json", "predictions.parquet"])
def test_a_damaged_run_of_a_trial_is_carried_out_again_and_its_search_is_the_same(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    out, before = capsys.readouterr().out, trials()
    run = the_search().search.study.runs()[0]
    kept = run.path_of("checkpoint.pt").read_bytes()
    os.truncate(run.path_of(name), 20)
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    shown = capsys.readouterr()
    assert shown.out == out
    assert shown.err.startswith(f"mended: {run.path.name}: '{name}' is damaged: ")
    assert shown.err.count("\n") == 1
    assert (run.state, run.damage(), trials()) == ("done", "", before)
    assert run.path_of("checkpoint.pt").read_bytes() == kept


def test_what_is_fixed_is_not_searched() -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2", "--set", "tunable.p_drop=0.25") == 0
    assert [set(params) for params, _ in trials()] == [{"recipe.lr", "recipe.weight_decay"}] * 2
    specs = [run.spec() for run in StudyFolder(Path("results"), "tuning").runs()]
    assert {spec["method_config"]["p_drop"] for spec in specs} == {0.25}


def test_best_settings_of_folds_make_one_row_of_fresh_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *TOY, "--n-folds", "2", "--trials", "3") == 0
    best = {each.search.fold: each.best for each in searches()}
    assert set(best) == {0, 1}
    capsys.readouterr()
    path = "results/tuning/tuned/tunable-wdbc-all-subsets.yaml"
    assert call("run", "--config", path, "--quiet") == 0
    out = capsys.readouterr().out
    assert "| tunable (tuned) " in out
    assert "#1" not in out
    assert "inside its training and validation part" in " ".join(out.split())
    specs = {spec["fold"]: spec for spec in (r.spec() for r in searches()[0].search.study.runs())}
    final = [run.spec() for run in StudyFolder(Path("results"), "main").runs()]
    assert len(specs) == len(final) == 2
    for spec in final:
        trial = best[spec["fold"]]
        assert trial is not None
        assert spec["recipe"]["lr"] == trial.params["recipe.lr"]
    assert not set(run_names()) & set(run_names("main"))


def test_tune_folds_limits_the_searches() -> None:
    folds = ("--n-folds", "3", "--tune-folds", "1")
    assert call("tune", *TOY, *folds, "--trials", "1") == 0
    assert the_search().search.fold == 1


def test_a_shared_search_is_marked_in_its_report_and_in_the_final_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *TOY, "--n-folds", "2", "--shared-search", "--trials", "1") == 0
    assert "TUNED ON CASES THAT THE FINAL RUNS TEST" in " ".join(capsys.readouterr().out.split())
    assert {cell.spec.fold for cell in the_search().search.cells} == {0, 1}
    path = "results/tuning/tuned/tunable-wdbc-all-subsets-shared.yaml"
    assert call("run", "--config", path, "--quiet") == 0
    assert "TUNED ON CASES THAT THIS TABLE TESTS" in " ".join(capsys.readouterr().out.split())


def test_a_time_is_a_budget_too() -> None:
    assert call("tune", *ONE_FOLD, "--timeout", "0.01") == 0
    assert len(trials()) == 1  # the first is over the time, no other begins
    assert call("tune", *ONE_FOLD, "--timeout", "0.01") == 0
    assert len(trials()) == 1


def test_a_database_holds_a_search_as_a_file_does() -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    stored = ("--storage", "sqlite:///trials.db", "--study", "database")
    assert call("tune", *ONE_FOLD, "--trials", "2", *stored) == 0
    (found,) = stored_searches(StudyFolder(Path("results"), "database"), "sqlite:///trials.db")
    assert [(each.params, each.value) for each in found.trials] == trials()


def test_halving_prunes_as_the_median_does_and_spares_later_repeats() -> None:
    asked = ("tune", *ONE_FOLD, "--seeds", "0-1", "--pruner", "halving", "--trials", "6")
    assert call(*asked, "--set", "recipe.epochs=3", "--set", "recipe.warmup_epochs=1") == 0
    pruned = [each for each in the_search().trials if each.state.name == "PRUNED"]
    assert pruned
    study = the_search().search.study
    for trial in pruned:
        assert trial.user_attrs["reason"].startswith("pruned at epoch ")
        first, second = (study.run_named(name) for name in trial.user_attrs["runs"])
        assert (first.state, first.reason()) == ("failed", trial.user_attrs["reason"])
        assert not second.path.exists()


# --- what the settings do ---------------------------------------------------------------------


def test_a_finished_search_shows_its_importances_and_which_method_needs_tuning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *ONE_FOLD, "-m", "concat", "--trials", "5") == 0
    capsys.readouterr()
    assert call("sensitivity", "--study", "tuning") == 0
    captured = capsys.readouterr()
    for method, settings in (("tunable", ("p_drop",)), ("concat", ("fill", "dropout"))):
        assert f"importance of {method}'s settings" in captured.out
        for setting in (*settings, "recipe.lr", "recipe.weight_decay"):
            assert f"| {setting} " in captured.out
    assert "PED-ANOVA" in captured.out
    gains = {each.search.row: each.gain or 0.0 for each in searches()}
    first = min(gains, key=lambda row: captured.out.index(f"| {row} "))
    assert gains[first] == max(gains.values())
    kinds = ("importance", "slice", "parallel", "contour", "rank")
    names = {path.name for path in Path("results/tuning/reports").glob("*.png")}
    assert {f"{kind}-tunable-wdbc-all-subsets-f0.png" for kind in kinds} <= names
    assert "gains-wdbc-all-subsets.png" in names
    for drawing in view_drawings(searches()[0], "ped-anova"):
        if drawing.name.startswith(("contour", "rank")):
            pairs_and_bar = [axis for axis in drawing.figure.axes if axis.get_visible()]
            assert len(pairs_and_bar) == 3 + 1
    assert call("sensitivity", "--study", "tuning", "--importance", "fanova", "-m", "concat") == 0
    out = capsys.readouterr().out
    assert "fANOVA (64 trees" in out
    assert "tunable" not in out


def test_a_search_is_read_though_its_hash_would_be_another_now() -> None:
    assert call("tune", *ONE_FOLD, "--trials", "3") == 0
    before = trials()
    (record,) = Path("results/tuning/searches").glob("*.json")
    stored = json.loads(record.read_text())
    del stored["checksum"]
    stored["cells"][0]["spec"]["recipe"]["patience"] += 1  # as a new default of ours would
    record.write_text(json.dumps(stored))
    assert trials() == before
    assert len(list(record.parent.glob("*.journal"))) == 1


def test_a_setting_that_few_trials_have_is_weighed_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("tune", *ONE_FOLD, "--sampler", "random")
    monkeypatch.setenv("BENCH_TOY_SPACE", "nan")
    assert call(*asked, "--trials", "1") == 0
    monkeypatch.delenv("BENCH_TOY_SPACE")
    assert call(*asked, "--trials", "5") == 0
    capsys.readouterr()
    assert call("sensitivity", "--study", "tuning", "--quiet") == 0
    shown = capsys.readouterr()
    assert "PED-ANOVA" in shown.out
    assert shown.err == ""


def test_too_few_trials_have_no_importance_but_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("tune", *ONE_FOLD, "--trials", "2") == 0
    capsys.readouterr()
    assert call("sensitivity", "--study", "tuning") == 0
    assert "no importance: 2 complete trials, it needs 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("study", "said"), [("nothing", "no study is at"), ("empty", "no search is in")]
)
def test_a_study_without_searches_is_one_line(
    study: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("results/empty").mkdir(parents=True)
    assert call("sensitivity", "--study", study) == 2
    assert said in capsys.readouterr().err


# --- faults -----------------------------------------------------------------------------------


def test_a_failed_or_diverged_trial_has_its_reason_and_the_search_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", "nan+raises")
    assert call("tune", *ONE_FOLD, "--trials", "8", "--sampler", "random") == 0
    assert len(trials()) == 8
    found = {"none": "COMPLETE", "nan": "FAIL", "raises": "FAIL"}
    assert {each.params["fault"] for each in the_search().trials} == set(found)
    for trial in the_search().trials:
        assert trial.state.name == found[trial.params["fault"]]
        reason = trial.user_attrs.get("reason", "")
        if trial.params["fault"] == "nan":
            assert "loss term 'ce' is nan" in reason
        if trial.params["fault"] == "raises":
            assert reason == "RuntimeError: the toy gives up"
    assert "[a] Failed: " in capsys.readouterr().out


@pytest.mark.slow
def test_parameters_that_kill_their_worker_are_given_up_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", "dies")
    asked = ("tune", *ONE_FOLD, "--trials", "2", "--sampler", "random", "--jobs", "2")
    assert call(*asked) == 0
    result = the_search()
    fatal = [each for each in result.trials if each.params["fault"] == "dies"]
    assert len(result.trials) == 2
    assert fatal
    assert result.n_killed == 2 * len(fatal)
    for trial in fatal:
        assert trial.user_attrs["reason"].endswith("ended, the 3. time; not asked again")


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_at_the_time_limit_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", "hangs")
    asked = ("tune", *ONE_FOLD, "--trials", "3", "--sampler", "random", "--time-limit", "20s")
    assert call(*asked) == 0
    result = the_search()
    late = [each for each in result.trials if each.params["fault"] == "hangs"]
    assert len(result.trials) == 3
    assert late
    assert result.n_killed == 0
    reason = "it took longer than the time limit of 20 seconds and was ended"
    for trial in late:
        assert trial.user_attrs["reason"] == reason
        (name,) = trial.user_attrs["runs"]
        run = result.search.study.run_named(name)
        assert (run.state, run.reason()) == ("failed", reason)


@pytest.mark.slow
def test_a_search_whose_workers_die_before_any_trial_ends_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", "stillborn")
    assert call("tune", *ONE_FOLD, "--trials", "2", "--executor", "processes") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no trial could be begun: the worker process ended by signal SIGKILL" in last


@pytest.mark.parametrize(
    ("space", "arguments", "said"),
    [
        ("sound", ("-m", "logistic-specialist"), "has nothing to search"),
        ("contradictory", (), "the search space of tunable contradicts itself: ValueError"),
        ("refused", (), "tunable.p_drop: input should be less than 1"),
        ("sound", ("--set", "tunable.p_dorp=1"), "did you mean p_drop?"),
        ("sound", ("--set", "tunable.p_drop=2"), "less than 1"),
        ("sound", ("--trials", "0"), "x>=1"),
        ("sound", ("--tune-folds", "3"), "asks for fold 3"),
        ("sound", ("--tune-folds", "all"), "--tune-folds wants numbers"),
        ("sound", ("--timeout", "9", "--trials", "9", "--budget", "equal"), "not both"),
        ("sound", ("--storage", "nowhere://x"), "cannot be opened"),
        ("sound", ("--executor", "slurm"), "trials are not; say --executor processes"),
        ("sound", ("--executor", "slrum"), "did you mean slurm?"),
        ("sound", ("--executor", "inline", "--time-limit", "9s"), "leave --time-limit out"),
        ("sound", ("--timeout", "nan"), "--timeout wants a number of seconds, got nan"),
        ("sound", ("--timeout", "inf"), "--timeout wants a number of seconds, got inf"),
        ("sound", ("--time-limit", "soon"), "wants a time such as 90s"),
        ("sound", ("--executor-config", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_a_wrong_search_is_one_line_and_trains_nothing(
    space: str,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", space)
    assert call("tune", *ONE_FOLD, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(Path().glob("results/*/runs/*"))


def test_what_lies_in_the_way_of_a_search_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("tune", *ONE_FOLD, "--trials", "1")
    folder = Path("results/tuning/searches")
    folder.parent.mkdir(parents=True)
    folder.write_text("")

    def said(*command: str) -> str:
        assert call(*command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "cannot write 'results/tuning/searches': file exists" in said(*asked)
    folder.unlink()
    Path("results/tuning/tuned").write_text("")
    assert "cannot write 'results/tuning/tuned': file exists" in said(*asked)
    (journal,) = folder.glob("*.journal")
    journal.rename("aside")
    journal.mkdir()
    for command in (asked, ("sensitivity", "--study", "tuning"), ("report", "--study", "tuning")):
        assert ".journal': is a directory; delete it to" in said(*command)
    journal.rmdir()
    Path("aside").rename(journal)
    (folder / "notes.json").write_text('{"name": "mine"}')
    for command in (("sensitivity", "--study", "tuning"), ("report", "--study", "tuning")):
        assert "searches/notes.json' is damaged: it lacks at, cells" in said(*command)


def test_help_imports_no_optuna() -> None:
    script = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main(['tune', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'optuna', 'torch', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(PLUGINS.parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


# --- no look at the test ----------------------------------------------------------------------


def values_of(study: str, *arguments: str) -> list[list[float | None]]:
    toys = included("tunable", "shuffled")
    asked = (
        "tune",
        *toys,
        "-m",
        "tunable",
        "-d",
        "shuffled",
        "--set",
        "recipe.epochs=3",
        "--quiet",
    )
    assert call(*asked, "--trials", "4", "--study", study, *arguments) == 0
    return [[each.value for each in result.trials] for result in searches(study)]


def test_labels_of_a_test_part_change_no_value_of_its_search() -> None:
    first, second = values_of("whole")
    mixed_first, mixed_second = values_of("mixed", "--set", "shuffled.fold=0")
    assert mixed_first == first
    assert mixed_second != second  # which trains on those cases


def test_labels_of_a_fixed_test_part_change_no_value_at_all() -> None:
    split = ("--n-folds", "1")
    mixed = values_of("mixed", *split, "--set", "shuffled.fixed=true")
    assert mixed == values_of("whole", *split)
    assert the_search("mixed").search.scope == "split"


def test_the_overhead_of_a_trial_can_be_measured() -> None:
    plugins = tuple(str(PLUGINS / f"{name}.py") for name in ("tunable", "shuffled"))
    request = Request(
        methods=("tunable",),
        datasets=("shuffled",),
        folds=(0,),
        include=plugins,
        settings={"recipe": {"epochs": 1}},
        study="timed",
    )
    plain, trial = overhead(request)
    assert plain > 0
    assert trial > 0
    assert len(run_names("timed")) == len(run_names("timed-plain")) == 1
    assert run_names("timed") == run_names("timed-plain")


# --- several processes ------------------------------------------------------------------------


def carry_out(folder: Path, arguments: tuple[str, ...]) -> None:
    """Search in this process."""
    os.setsid()
    os.chdir(folder)
    with Path(f"output-{os.getpid()}.txt").open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    main(list(arguments))


def start(folder: Path, *arguments: str) -> multiprocessing.process.BaseProcess:
    """Search in a process of its own, forked from a server that has imported torch once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "timm", "pandas", "pyarrow.parquet", "sklearn.linear_model", "optuna"]
    )
    process = context.Process(target=carry_out, args=(folder, arguments))
    process.start()
    return process


def wait_for_a_trial_of(process: Any, n_finished: int) -> None:
    """Wait until so many trials are over and this process is at work on another."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        journals = list(Path("results/tuning/searches").glob("*.json"))
        if journals and len(the_search().trials) >= n_finished:
            at_work = [
                each
                for each in the_search().search.ledger.trials()
                if each.state.name == "RUNNING"
                and each.user_attrs.get("worker", {}).get("pid") == process.pid
                and each.intermediate_values
            ]
            if at_work:
                return
        time.sleep(0.05)
    raise AssertionError("no trial was ever at work")


def assert_whole(n_trials: int) -> None:
    """Check that no trial is lost or doubled."""
    result = the_search()
    assert len(result.trials) == n_trials
    assert sorted(each.user_attrs["place"] for each in result.trials) == list(range(n_trials))
    parameters = [json.dumps(each.params, sort_keys=True) for each in result.trials]
    assert len(set(parameters)) == n_trials
    states = {each.state.name for each in result.search.ledger.trials()}
    assert states <= {"COMPLETE", "PRUNED", "FAIL"}


@pytest.mark.slow
def test_two_processes_share_a_search(tmp_path: Path) -> None:
    asked = ("tune", *ONE_FOLD, "--trials", "8", "--set", "tunable.pause=0.1")
    processes = [start(tmp_path, *asked) for _ in range(2)]
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    assert_whole(8)
    assert the_search().n_killed == 0
    workers = {each.user_attrs["worker"]["pid"] for each in the_search().trials}
    assert workers == {process.pid for process in processes}


@pytest.mark.slow
def test_a_killed_process_loses_no_trial(tmp_path: Path) -> None:
    asked = ("tune", *ONE_FOLD, "--trials", "6", "--set", "tunable.pause=0.3",
             "--set", "recipe.epochs=3")  # fmt: skip
    processes = [start(tmp_path, *asked) for _ in range(2)]
    wait_for_a_trial_of(processes[0], n_finished=1)
    assert processes[0].pid is not None
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join(30)
    processes[1].join(240)
    assert (processes[0].exitcode, processes[1].exitcode) == (-signal.SIGKILL, 0)
    assert_whole(6)
    every = the_search().search.ledger.trials()
    (killed,) = [each for each in every if each.user_attrs.get("killed")]
    (again,) = [each for each in every if each.user_attrs.get("again") == killed.number]
    assert again.params == killed.params
    assert again.user_attrs["place"] == killed.user_attrs["place"]
    assert f"its process {processes[0].pid} on " in killed.user_attrs["reason"]


@pytest.mark.slow
def test_a_search_killed_alone_goes_on_to_the_same_trials(tmp_path: Path) -> None:
    asked = ("tune", *ONE_FOLD, "--trials", "4", "--set", "tunable.pause=0.2",
             "--set", "recipe.epochs=2")  # fmt: skip
    process = start(tmp_path, *asked)
    wait_for_a_trial_of(process, n_finished=1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert call(*asked) == 0
    assert_whole(4)
    assert call(*asked, "--study", "straight") == 0

    def by_place(study: str) -> dict[int, tuple[dict[str, Any], float | None]]:
        return {e.user_attrs["place"]: (e.params, e.value) for e in the_search(study).trials}

    assert by_place("tuning") == by_place("straight")


# --- the space --------------------------------------------------------------------------------


class FakeTrial:
    """Answers every question with its first answer, and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        self.asked.append(name)
        return choices[0]


def test_a_fixed_setting_is_answered_without_asking() -> None:
    trial = FakeTrial()
    shown = Suggestions(trial, {"width": 7})
    assert shown.suggest_categorical("width", [1, 2]) == 7
    assert shown.suggest_categorical("depth", [3, 4]) == 3
    assert trial.asked == ["depth"]


def test_the_default_is_found_in_a_space_of_ratios_and_branches() -> None:
    from bench.registry import Registry

    plugin = Registry().load("method", "cmml")
    for preset, mlp_ratio in (({}, 1), ({"enc_mlp": 128, "dec_mlp": 128}, 4)):
        config = plugin.config_class(**preset).model_dump(mode="json")
        space = Space(plugin, Configuration(config, Recipe()), {}, {}, is_trained=True)
        params = space.default_params()
        assert params is not None
        assert params["mlp_ratio"] == mlp_ratio
        assert params["recipe.lr"] == Recipe().lr
    outside = plugin.config_class(memory_epochs=200).model_dump(mode="json")
    space = Space(plugin, Configuration(outside, Recipe()), {}, {}, is_trained=True)
    assert space.default_params() is None
