"""A file of a study that has changed since it was written: named, left out of nothing else, mended.

Every file of a run folder meets every kind of damage and every command that reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import Damaged
from bench.files import row_of
from bench.search.law import Budget, Law
from bench.search.ledger import Ledger
from bench.store import RunFolder, StudyFolder
from tests.command_line import call, included

PLUGINS = included("counted", "shuffled", "singles")
FURTHER = ("-m", "counted", "-d", "shuffled", "--no-floor", "--device", "cpu", "-q")
STUDY = (*FURTHER, "-p", "singles")
READ = (  # whenever a study is looked at
    "spec.json", "status.json", "environment.json", "predictions.parquet", "availability.parquet",
    "cases.parquet",
)  # fmt: skip


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60 if path.suffix == ".parquet" else len(content) // 3] ^= 1  # no byte of no effect
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_text(path: Path) -> None:
    path.write_bytes(b'{"a": "\xff\xfe"}')


HARMS = (cut, flip, empty, no_text)
Harm = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carry out a study of two runs; return its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_TOY_COUNT", str(folder))
        assert call("run", *PLUGINS, *STUDY, "--out", str(folder / "results")) == 0
    return folder / "results"


@pytest.fixture
def runs(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """Copy the study to the current folder; the first run is for harm, the second to be kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_TOY_COUNT", str(tmp_path))
    shutil.copytree(whole, "results")
    return StudyFolder(Path("results"), "main").runs()


def predictions(runs: list[RunFolder]) -> list[bytes]:
    return [run.path_of("predictions.parquet").read_bytes() for run in runs]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", READ)
def test_a_damaged_run_is_named_by_all_who_look_and_hides_no_other(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], name: str, harm: Harm
) -> None:
    harm(runs[0].path_of(name))
    assert call("status") == 0
    said = capsys.readouterr().out
    assert f"damaged  '{name}' is damaged: " in said
    assert said.endswith("1 damaged, 1 done\n")
    assert call("table") == 0
    shown = capsys.readouterr()
    assert "counted" in shown.out
    assert "damaged" in (shown.err if name == "spec.json" else shown.out)
    assert call("merge", "main", "--into", "both") == 1
    assert f"'{name}' is damaged" in capsys.readouterr().out
    (kept,) = StudyFolder(Path("results"), "both").runs()
    assert kept.path.name == runs[1].path.name
    assert call("clean", "--only", "unfinished", "--yes") == 0
    assert call("cancel") == 0
    assert runs[0].path.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "status.json",
        *(pytest.param(each, marks=pytest.mark.slow) for each in READ if each != "status.json"),
    ],
)
@pytest.mark.parametrize("command", ["run", "retry"])
def test_a_damaged_run_is_carried_out_again_and_no_other(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    wanted, kept = predictions(runs), runs[1].path_of("status.json").read_bytes()
    cut(runs[0].path_of(name))
    if command == "retry":
        assert call("retry", "--failed", "-q") == 0
    else:
        assert call("run", *PLUGINS, *STUDY) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"mended: {runs[0].path.name}: '{name}' is damaged: ")
        assert said.count("\n") == 1
    assert [run.state for run in runs] == ["done", "done"]
    assert [run.damage() for run in runs] == ["", ""]
    assert predictions(runs) == wanted
    assert runs[1].path_of("status.json").read_bytes() == kept


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_weights_trouble_nobody_until_further_conditions_need_them(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], harm: Harm
) -> None:
    harm(runs[0].path_of("checkpoint.npz"))
    assert call("status") == 0
    assert capsys.readouterr().out.endswith("2 done\n")
    assert call("run", *PLUGINS, *FURTHER) == 0
    assert "checkpoint.npz' is damaged" in capsys.readouterr().err
    assert [run.state for run in runs] == ["done", "done"]
    assert call("run", *PLUGINS, *STUDY) == 0


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_scan_is_made_again(runs: list[RunFolder], harm: Harm) -> None:
    (scan,) = Path("results", "main").glob("leaks-*.json")
    before = scan.read_bytes()
    harm(scan)
    assert call("table") == 0
    cut(runs[0].path_of("status.json"))  # so that something is to be done
    assert call("run", *PLUGINS, *STUDY) == 0
    assert scan.read_bytes() == before


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_notes_of_a_study_are_one_line_that_says_what_to_delete(
    runs: list[RunFolder], capsys: pytest.CaptureFixture[str], harm: Harm
) -> None:
    notes = Path("results", "main", "study.json")
    harm(notes)
    for command in (("status",), ("table",), ("run", *PLUGINS, *STUDY)):
        assert call(*command) == 2
        said = capsys.readouterr().err
        assert "main/study.json' is damaged" in said
        assert "delete that file" in said
        assert said.count("\n") == 1
    notes.unlink()
    before = [run.path_of("status.json").read_bytes() for run in runs]
    assert call("run", *PLUGINS, *STUDY) == 0
    assert [run.path_of("status.json").read_bytes() for run in runs] == before


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Write the journal of a search with one finished trial."""
    add_trial(tmp_path)
    return tmp_path / "lr.journal"


def add_trial(folder: Path) -> None:
    ledger = ledger_of(folder)
    claim = ledger.claim(Budget(9), {"x": 0.5}, lambda trial, _: trial.suggest_float("x", 0, 1))
    assert claim.trial is not None
    ledger.study.tell(claim.trial, 0.875)


def ledger_of(folder: Path) -> Ledger:
    return Ledger("lr", folder, folder / "runs", Law())


def trials_of(journal: Path) -> list[tuple[object, ...]]:
    found = ledger_of(journal.parent).trials()
    return [(each.state, each.params, each.value, each.user_attrs) for each in found]


def test_a_damaged_journal_of_a_search_is_one_line(journal: Path) -> None:
    content, before = journal.read_bytes(), trials_of(journal)
    named = r"lr\.journal' is damaged: row \d+; delete it to have the search made once more"
    for place in range(len(content) - 1):
        journal.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with contextlib.suppress(Damaged):
            assert trials_of(journal) == before  # the word "checksum": the row is whole
    for wrong in (content.replace(b"0.875", b"0.975"), content.replace(b"\n", b" ", 1)):
        journal.write_bytes(wrong)
        with pytest.raises(Damaged, match=named):
            trials_of(journal)


def test_a_row_that_was_cut_off_is_written_over(journal: Path) -> None:
    content, before = journal.read_bytes(), trials_of(journal)
    for end in (content + content[:50], content[:-9]):  # when the power was cut
        journal.write_bytes(end)
        add_trial(journal.parent)
        assert all(map(row_of, journal.read_bytes().splitlines()))
        whole, *_ = trials_of(journal)
        assert (whole == before[0]) == (end != content[:-9])


def test_a_journal_that_an_older_version_wrote_is_read(journal: Path) -> None:
    before = trials_of(journal)
    rows = [row_of(line) for line in journal.read_bytes().splitlines()]
    journal.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert trials_of(journal) == before
    journal.write_text(journal.read_text().replace("op_code", "op_cord", 1))
    with pytest.raises(Damaged, match=r"lr\.journal' is damaged: 'op_code'; delete it"):
        trials_of(journal)
