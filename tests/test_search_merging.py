"""Searches of several machines in one study: as far as each went, and none made of two."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.search.journal import trials_in
from bench.search.law import Budget, Law
from bench.search.ledger import JOURNAL, NOTED, SEARCHES, Ledger
from bench.store import StudyFolder
from bench.study.merging import Merged
from bench.tuning.merging import merge_searches
from tests.command_line import call, included, snapshot

NAME = "toy-wdbc"
TOY = (*included("tunable"), "-m", "tunable", "--set", "recipe.epochs=1", "--n-folds", "2")


def searched(study: StudyFolder, *values: float, storage: str = JOURNAL) -> StudyFolder:
    """Give a study a search with a trial for each value, beside those it has."""
    study.create()
    (study.path / SEARCHES).mkdir(exist_ok=True)
    for value in values:
        ledger_of(study).study.tell(claimed(study), value)
    record = dict.fromkeys(NOTED.split()) | {
        "name": NAME,
        "storage": storage,
        "law": Law().to_json(),
    }
    study.write_json(f"{SEARCHES}/{NAME}.json", record)
    return study


def claimed(study: StudyFolder) -> Any:
    claim = ledger_of(study).claim(
        Budget(99), {"x": 0.5}, lambda trial, _: trial.suggest_float("x", 0, 1)
    )
    return claim.trial


def ledger_of(study: StudyFolder) -> Ledger:
    return Ledger(NAME, study.path / SEARCHES, study.runs_path, Law())


def values(study: StudyFolder) -> list[float | None]:
    return [each.value for each in trials_in(ledger_of(study).journal, NAME)]


def files(*studies: StudyFolder) -> list[dict[str, tuple[int, bytes]]]:
    """Return the searches of studies as they lie there, but for their locks."""
    found = [snapshot(each.path / SEARCHES) for each in studies]
    return [{k: v for k, v in each.items() if not k.endswith(".lock")} for each in found]


def merged(sources: Sequence[StudyFolder], into: StudyFolder) -> Merged:
    (only,) = merge_searches(sources, into.create())
    assert only.kind == "search"
    return only


@pytest.fixture
def studies(tmp_path: Path) -> tuple[StudyFolder, StudyFolder, StudyFolder]:
    here, there, both = (StudyFolder(tmp_path, name) for name in ("here", "there", "both"))
    return here, there, both


Studies = tuple[StudyFolder, StudyFolder, StudyFolder]


def test_a_search_that_went_on_elsewhere_is_taken_as_far_as_it_went(studies: Studies) -> None:
    here, there, both = studies
    searched(here, 0.5, 0.625)
    shutil.copytree(here.path, there.path)
    searched(there, 0.75)
    before = files(here, there)
    assert merged([here], both).taken is not None
    assert values(both) == [0.5, 0.625]
    found = merged([here, there], both)
    assert (found.n_same, found.conflict, found.damaged) == (2, "", ())
    assert values(both) == [0.5, 0.625, 0.75]
    assert files(here, there) == before
    searched(both, 0.875)
    last = files(both)
    assert merged([there, here], both).n_same == 2
    assert files(both) == last


def test_the_same_search_made_twice_is_found_equal(studies: Studies) -> None:
    here, there, both = studies
    searched(here, 0.5, 0.625)
    searched(there, 0.5)
    assert merged([there, here], both).n_same == 1
    assert values(both) == [0.5, 0.625]


def test_searches_that_went_different_ways_are_shown_and_left(studies: Studies) -> None:
    here, there, both = studies
    searched(here, 0.5, 0.625)
    searched(there, 0.5, 0.75)
    found = merged([here, there], both)
    assert found.taken is None
    assert "trial 1 differs between" in found.conflict
    assert found.conflict.endswith("delete the wrong one and merge again")
    assert not (both.path / SEARCHES).exists()
    searched(both, 0.5)
    assert merged([here, there], both).conflict
    assert values(both) == [0.5]
    (here.path / SEARCHES / f"{NAME}.json").unlink()
    assert merged([here, there], both).conflict == ""
    assert values(both) == [0.5, 0.75]


def test_a_damaged_search_is_left_and_gives_way_to_a_whole_one(studies: Studies) -> None:
    here, there, both = studies
    searched(here, 0.5, 0.625)
    searched(there, 0.5)
    searched(both, 0.5, 0.625)
    for study in (here, both):
        journal = ledger_of(study).journal
        journal.write_text(journal.read_text().replace("0.625", "0.725"))
    found = merged([here, there], both)
    assert [
        str(study.path) in each for study, each in zip((both, here), found.damaged, strict=True)
    ]
    assert values(both) == [0.5]
    shutil.rmtree(there.path)
    shutil.rmtree(both.path)
    found = merged([here], both)
    assert (found.taken, len(found.damaged)) == (None, 1)
    assert not (both.path / SEARCHES).exists()


@pytest.mark.parametrize("content", ['{"a": 1}', "{", "[]"])
def test_a_file_that_is_no_record_is_left_and_named(studies: Studies, content: str) -> None:
    here, _, both = studies
    searched(here, 0.5)
    (here.path / SEARCHES / f"{NAME}.json").write_text(content)
    (said,) = merged([here], both).damaged
    assert f"here/searches/{NAME}.json' is damaged: " in said


def test_a_search_at_work_is_left_alone_and_one_of_the_dead_goes_on(studies: Studies) -> None:
    here, there, both = studies
    searched(here, 0.5, 0.625)
    searched(both, 0.5)
    claimed(both)
    assert "a process is at work on it" in merged([here], both).conflict
    assert values(both) == [0.5, None]
    journal = ledger_of(both).journal
    searched(there)
    shutil.copy(journal, ledger_of(there).journal)
    with ledger_of(there).journal.open("ab") as file:
        file.write(b'{"op_code": 8, "tri')  # that its process is writing
    shutil.rmtree(both.path)
    assert merged([there], both).taken is not None
    assert trials_in(journal, NAME)[1].user_attrs["worker"]["pid"] == os.getpid()
    assert journal.read_bytes().endswith(b"\n")


def test_a_search_in_a_database_is_known_in_the_merged_study(studies: Studies) -> None:
    here, there, both = studies
    searched(here, storage="sqlite:///trials.db")
    assert merged([here], both).taken is not None
    assert both.read_json(f"{SEARCHES}/{NAME}.json")["storage"] == "sqlite:///trials.db"
    assert not ledger_of(both).journal.exists()
    searched(there, 0.5)
    assert "are in journal and in sqlite:///trials.db" in merged([here, there], both).conflict


def test_searches_of_two_machines_are_asked_again_without_a_trial_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for fold in ("0", "1"):
        study = ("--study", f"machine{fold}", "-q")
        assert call("tune", *TOY, "--trials", "1", "--tune-folds", fold, *study) == 0
    assert call("merge", "machine0", "machine1", "--into", "both") == 0
    assert "results/both: 2 searches; 0 found" in capsys.readouterr().out
    assert call("merge", "machine0", "machine1", "--into", "both") == 0
    assert "results/both: 2 searches; 2 found" in capsys.readouterr().out
    runs = snapshot(Path("results/both/runs"))
    assert call("tune", *TOY, "--trials", "1", "--study", "both") == 0
    shown = capsys.readouterr()
    assert "| tunable, fold 0 |        1 |" in shown.out
    assert "| tunable, fold 1 |        1 |" in shown.out
    assert "0 trials carried out, 2 found finished" in shown.err
    assert snapshot(Path("results/both/runs")) == runs
    assert call("report", "--study", "both") == 0
    page = Path("results/both/reports/report.html").read_text()
    assert "2 searches with 2 trials" in page
