"""The page of a study with searches, ablations and sensitivity studies, from its files alone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.pages.page import write_report
from bench.reporting.printing import Asked
from bench.store import StudyFolder
from bench.variants.records import records_of, without_contained
from tests.command_line import call, included, snapshot
from tests.test_page import WRAPPER, title_in_chromium

TOY = (*included("tunable"), "-m", "tunable", "--set", "recipe.epochs=1", "--quiet")
SMALL = ("-m", "concat", "--n-folds", "2", "--set", "recipe.epochs=1", "--quiet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(name: str) -> StudyFolder:
    return StudyFolder(Path("results"), name)


def page_of(name: str) -> str:
    return write_report(study(name))[0].read_text(encoding="utf-8")


def sections(page: str) -> list[str]:
    return re.findall(r'<h2 id="(\w+)"', page)


def section(page: str, identity: str) -> str:
    return page.partition(f'<h2 id="{identity}"')[2].partition("</section>")[0]


# --- searches ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one search, two trials of which fail, each for its own reason."""
    root = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("BENCH_TOY_SPACE", "nan+raises")
        asked = ("--folds", "0", "--trials", "5", "--sampler", "random")
        assert call("tune", *TOY, *asked) == 0
    return root


@pytest.fixture
def search(searched: Path, folder: Path) -> str:
    """The name of a copy of that study, below the working folder."""
    shutil.copytree(searched / "results", folder / "results")
    return "tuning"


def test_the_page_says_what_was_searched_found_and_not_told(search: str) -> None:
    page = page_of(search)
    assert sections(page) == ["summary", "searches", "runs", "failures", "leaks", "citations"]
    summary = section(page, "summary")
    assert "Searched: tunable over fault, p_drop, recipe.lr and recipe.weight_decay" in summary
    assert "5 trials (" in summary
    assert re.search(
        r"Found, on validation \(in percent\): tunable has [\d.]+ with its default and", summary
    )
    assert "Not told here: any test score" in summary
    assert "tuned/tunable-wdbc-all-subsets.yaml" in summary
    for title in ("search", "default against best", "importance of tunable&#x27;s settings"):
        assert f"wdbc, all-subsets: {title}" in section(page, "searches")
    figures = re.findall(r"<figcaption>(\S+)", page)
    assert figures[:2] == ["tuning-wdbc-all-subsets", "gains-wdbc-all-subsets"]


def test_trials_are_no_rows_of_scores_and_no_failed_runs(
    search: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(search)
    assert "1 search with 5 trials, without test scores" in page
    assert "tunable #" not in page
    assert "Nothing: every run finished." in section(page, "failures")
    said = section(page, "searches").partition("Trials without a value")[2]
    assert "failed: the loss term" in said or "failed: loss term" in said
    assert "failed: RuntimeError: the toy gives up" in said
    assert "no test cases" in section(page, "runs")
    capsys.readouterr()
    assert call("check", "--study", search) == 0
    assert "no fault found" in capsys.readouterr().out
    assert call("table", "--study", search) == 2
    error = capsys.readouterr().err
    assert "holds searches alone" in error
    assert error.count("\n") == 1


def test_a_final_run_beside_a_search_has_its_own_table(search: str) -> None:
    path = "results/tuning/tuned/tunable-wdbc-all-subsets.yaml"
    assert call("run", "--config", path, "--study", search, "--quiet") == 0
    page = page_of(search)
    assert sections(page)[:4] == ["summary", "searches", "tables", "figures"]
    tables = section(page, "tables")
    assert "tunable (tuned)" in tables
    assert "tunable #" not in tables
    assert len(Asked.of(study(search)).names) == 1


def test_a_shared_search_is_marked_as_tuned_on_cases_that_it_tests(folder: Path) -> None:
    assert call("tune", *TOY, "--n-folds", "2", "--trials", "1", "--shared-search") == 0
    summary = section(page_of("tuning"), "summary")
    assert "TUNED ON CASES THAT THE FINAL RUNS TEST" in summary


def test_trials_in_a_database_are_named_and_left_where_they_are(folder: Path) -> None:
    stored = ("--storage", "sqlite:///trials.db", "--folds", "0", "--trials", "1")
    assert call("tune", *TOY, *stored) == 0
    (folder / "trials.db").unlink()
    page = page_of("tuning")
    assert "Its trials are in sqlite:///trials.db" in section(page, "summary")
    assert "tunable #" not in page


@pytest.mark.slow
def test_a_score_that_changed_in_a_journal_hides_its_search_until_it_is_made_again(
    search: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_TOY_SPACE", "nan+raises")
    (journal,) = Path("results", search, "searches").glob("*.journal")
    whole = journal.read_text()
    journal.write_text(whole.replace('"values": [0.', '"values": [0.9'))
    page = page_of(search)
    assert "Not shown, as &#39;results/tuning/searches/tunable-wdbc" in section(page, "summary")
    assert "1 search with 0 trials" in page
    asked = ("--folds", "0", "--trials", "5", "--sampler", "random")
    for command in (("tune", *TOY, *asked), ("sensitivity", "--study", search)):
        assert call(*command) == 2
        error = capsys.readouterr().err
        assert ".journal' is damaged: row " in error
        assert error.count("\n") == 1
    journal.unlink()
    before = snapshot(study(search).runs_path)
    assert call("tune", *TOY, *asked) == 0
    again = snapshot(study(search).runs_path)
    done = [name for name, (_, content) in before.items() if b'"done"' in content]
    assert done
    assert {name: again[name] for name in done} == {name: before[name] for name in done}
    values = re.compile(r'"values": \[(.*?)\]')
    assert values.findall(journal.read_text()) == values.findall(whole)


def test_the_page_of_a_search_has_its_views_and_the_same_bytes_without_torch(folder: Path) -> None:
    assert call("tune", *TOY, "--folds", "0", "--trials", "4") == 0
    first, second = reported("tuning"), reported("tuning")
    assert first == second
    page = first["report.html"].decode()
    details = page.partition("<details>")[2].partition("</details>")[0]
    kinds = re.findall(r"<figcaption>(\w+)-tunable", details)
    assert kinds == ["importance", "slice", "parallel", "contour", "rank"]
    assert "PED-ANOVA" in section(page, "summary")


def reported(name: str) -> dict[str, bytes]:
    """Write a report in a process of its own, without torch; return its files."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench.pages.page import write_report\n"
        "from bench.store import StudyFolder\n"
        f"write_report(StudyFolder(Path('results'), {name!r}))\nprint('torch' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    return {path.name: path.read_bytes() for path in study(name).reports_path.iterdir()}


# --- ablations and sensitivity studies --------------------------------------------------------


def test_the_page_of_an_ablation_has_its_differences_tests_and_bars(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("ablate", *SMALL) == 0
    printed = capsys.readouterr().out
    page = page_of("ablation")
    expected = ["summary", "variants1", "runs", "failures", "leaks", "citations"]
    assert sections(page) == expected
    own = section(page, "variants1")
    assert own.startswith(">Ablation of concat")
    for part in ("concat, differences to the full method", "p of the difference", "mean fill"):
        assert part in own
    assert "<figcaption>ablation-concat-wdbc-all-subsets " in own
    summary = section(page, "summary")
    assert re.search(r"AVG AUC of full: [\d.]+\.", summary)
    assert "not told apart from it" in summary
    assert "concat #" not in page
    tables = Path("results/ablation/reports/tables.md").read_text()
    assert tables.rstrip() == printed.rstrip()  # what the command printed


def test_an_ablation_beside_a_study_leaves_its_tables_alone(folder: Path) -> None:
    assert call("run", *SMALL, "--no-floor", "--study", "both") == 0
    before = Asked.of(study("both"))
    assert call("ablate", *SMALL, "--study", "both") == 0
    page = page_of("both")
    assert "mean fill" in section(page, "variants1")
    assert "mean fill" not in section(page, "tables")
    own = {identity for record in records_of(study("both")) for identity in record.asked}
    assert Asked.of(study("both"), own) == before


def test_the_page_of_a_sweep_names_its_settings_and_what_failed(folder: Path) -> None:
    params = ("--param", "p_drop=0.25,0.5", "--folds", "0")
    assert call("sensitivity", *SMALL, *params, "--set", "concat.dropout=uniform") == 0
    runs = study("sensitivity").runs()
    (changed,) = [run for run in runs if run.spec()["method_config"]["p_drop"] == 0.25]
    shutil.rmtree(changed.path)
    page = page_of("sensitivity")
    own = section(page, "variants1")
    assert own.startswith(">Sensitivity of concat to p_drop")
    assert "sensitivity to p_drop" in own
    assert "p_drop = 0.5 (default)" in own
    assert "One repeat" in section(page, "summary") or "Without" in section(page, "summary")


def test_a_grid_is_a_chapter_too(folder: Path) -> None:
    params = ("--param", "p_drop=0.25,0.5", "--param", "fill=zero,learned", "--grid")
    assert call("sensitivity", *SMALL, "--folds", "0", *params) == 0
    page = page_of("sensitivity")
    assert "Sensitivity of concat to p_drop and fill, all combinations" in page
    assert "<figcaption>grid-concat-wdbc-all-subsets " in section(page, "variants1")


def test_what_was_tried_on_one_fold_is_shown_with_the_whole_alone(folder: Path) -> None:
    assert call("ablate", *SMALL, "--folds", "0") == 0
    assert call("ablate", *SMALL) == 0
    records = records_of(study("ablation"))
    assert len(records) == 2
    (shown,) = without_contained(records)
    assert len(shown.cells) == 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1440])
def test_a_page_with_chapters_fits_phone_and_desk(search: str, folder: Path, width: int) -> None:
    wrapped = WRAPPER.format(page=html.escape(page_of(search)), width=width)
    title = title_in_chromium(wrapped, folder, width + 60)
    shown, n_images, n_loaded, n_requests = title.split()[1:]
    assert int(shown) == width
    assert n_images == n_loaded != "0"
    assert n_requests == "0"
