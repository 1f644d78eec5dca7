"""`bench new dataset FOLDER` proposes a manifest that says why, and never overwrites one."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadData, BadRequest, BenchError
from bench.manifest import read_manifest
from bench.manifest.proposal import new_dataset
from tests.command_line import call
from tests.own_data import kidney, load, picture, reported, skin, volumes, write_csv


def proposed(folder: Path, out: Path | None = None) -> str:
    return new_dataset(folder, out, ["heart"]).read_text()


@pytest.mark.parametrize(
    ("make", "modalities", "label"),
    [
        (volumes, {"t1c", "flair", "adc", "clinical"}, "grade"),
        (kidney, {"slices", "report", "clinical"}, "tumour"),
        (skin, {"picture", "clinical"}, "diagnosis"),
        (reported, {"photos", "report"}, "label"),
    ],
)
def test_what_is_proposed_can_be_loaded(
    tmp_path: Path, make: Callable[[Path], Path], modalities: set[str], label: str
) -> None:
    pytest.importorskip("openpyxl")
    make(tmp_path / "study").unlink()
    path = new_dataset(tmp_path / "study", None, [])
    data = load(path)
    assert path.name == "study.yaml"
    assert set(data.modality_names) == modalities
    assert read_manifest(path).label.column == label
    assert data.available[:, 0].all()
    assert len(data.classes) == 2


def test_columns_are_told_apart_with_a_reason(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "row_index": k,
            "study": f"S{k}",
            "subject": f"P{k // 2}",
            "part": ("train", "test")[k // 2 % 2],
            "day": f"2020-01-{1 + k:02d}",
            "doctor": f"Dr {k * 7 % 23}{k}",
            "centre": "A",
            "empty": None,
            "weight": "NA" if k == 3 else 60.5 + k,
            "smokes": k % 3 // 2,
            "stage": ("I", "II", "III")[k % 3],
            "therapy": ("none", "surgery")[k // 2 % 2],
            "outcome": None if k == 5 else "lost" if k == 8 else ("good", "bad")[k // 2 % 2],
            "note": f"The patient came back after {k} months and was well.",
        }
        for k in range(24)
    ]
    write_csv(tmp_path / "table.csv", rows, ";")
    text = proposed(tmp_path)
    for line in (
        'delimiter: ";"  # semicolons',
        "case: study  # filled, and another in each row",
        'label: {column: outcome, leave_out: ["", lost]}  # by its name; blank, or in one row',
        "group: subject  # these cases never part",
        "split: part  # train, valid and test are there",
        "missing_values: [NA]  # cells that mean absent",
        "      weight: numeric",
        "      smokes: numeric  # 0 and 1 only: yes or no?",
        "      stage: categorical  # I, II, III",
        "      therapy: categorical  # does it give the label away? see leaks",
        "  therapy: each of its words has one class in this table",
        "    report: note",
        "#   row_index: names something by number",
        "#   day: dates",
        "#   doctor: 24 different words in 24 cells: a name?",
        "#   centre: always 'A'",
        "#   empty: blank",
    ):
        assert line in text
    assert load(next(tmp_path.glob("*.yaml"))).n_cases == 22


def test_paths_in_a_column_are_found_in_the_folder_that_it_leaves_out(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for k in range(6):
        picture(tmp_path / "raw" / "eyes" / f"{k}_left.png", 40 + k)
        rows.append({"nr": f"e{k}", "left": f"{k}_left.png", "class": "ab"[k % 2]})
    write_csv(tmp_path / "eyes.csv", rows)
    text = proposed(tmp_path)
    assert 'left: {image: "raw/eyes/{left}", size: 224, channels: 3}  # 6 cases' in text
    assert load(next(tmp_path.glob("*.yaml"))).available.all()


def test_files_of_some_cases_only_are_absent_in_the_others(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": f"x{k}", "y": k % 2, "age": k} for k in range(8)]
    write_csv(tmp_path / "t.csv", rows)
    for k in range(5):
        np.save(tmp_path / f"scan-x{k}.npy", np.zeros((2, 3, 4)))
    text = proposed(tmp_path)
    assert "missing_files: absent  # some cases lack some files" in text
    assert 'scan: {volume: "scan-{case}.npy", shape: [2, 3, 4]}  # 5 cases' in text
    assert load(next(tmp_path.glob("*.yaml"))).available[:, 0].sum() == 5


def test_columns_of_names_without_endings_are_pictures(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for k in range(6):
        for side in "LR":
            picture(tmp_path / "img" / f"e{k}{side}.JPG", 40 + k)
        rows.append({"nr": f"P{k}", "left": f"e{k}L", "right": f"e{k}R", "class": "ab"[k % 2]})
    write_csv(tmp_path / "eyes.csv", rows)
    text = proposed(tmp_path)
    assert 'left: {image: "img/{left}.JPG", size: 224, channels: 3}  # 6 cases' in text
    assert 'right: {image: "img/{right}.JPG", size: 224, channels: 3}  # 6 cases' in text
    assert load(next(tmp_path.glob("*.yaml"))).available.all()


def test_kinds_of_files_that_no_case_has_two_of_are_told(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": f"x{k}", "y": k % 2, "age": k} for k in range(8)]
    write_csv(tmp_path / "t.csv", rows)
    for k in range(8):
        picture(tmp_path / ("train", "test")[k // 4] / f"x{k}.png", 40 + k)
    assert "# no case is in two of these: if they are one, give a column" in proposed(tmp_path)


@pytest.mark.parametrize(("first", "mark"), [("", "|"), ("sep=|\n", "|"), ("sep=#\n", "#")])
def test_the_delimiter_is_proposed_where_the_file_does_not_declare_it(
    tmp_path: Path, first: str, mark: str
) -> None:
    lines = [mark.join(("id", "y", "age"))] + [
        mark.join((f"c{k}", "ab"[k % 2], f"{k}.5")) for k in range(6)
    ]
    (tmp_path / "t.csv").write_text(first + "\n".join(lines))
    assert ('delimiter: "|"  # pipes' in proposed(tmp_path)) == (mark == "|")
    assert load(next(tmp_path.glob("*.yaml"))).n_cases == 6


def test_an_old_encoding_is_guessed_and_said(tmp_path: Path) -> None:
    text = "id,y,place\n" + "".join(
        f"c{k},{k % 2},{('Rücken', 'Arm')[k % 3 % 2]}\n" for k in range(6)
    )
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    assert "encoding: cp1252  # a guess" in proposed(tmp_path)
    assert set(load(next(tmp_path.glob("*.yaml"))).table("clinical")["place"]) == {"Rücken", "Arm"}


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = skin(tmp_path / "skin")
    before = path.read_text()
    with pytest.raises(BadRequest, match=r"skin.yaml' is already there; move it, or choose --fol"):
        proposed(tmp_path / "skin")
    assert path.read_text() == before
    assert call("new", "dataset", str(tmp_path / "skin"), "--folder", str(tmp_path / "out")) == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == tmp_path / "out" / "skin.yaml"
    assert load(written, tmp_path / "skin").n_cases == 24
    assert call("new", "dataset", str(tmp_path / "skin"), "--folder", str(path)) == 2
    assert "skin.yaml' is already there" in capsys.readouterr().err


def test_a_name_that_is_taken_is_made_ones_own(tmp_path: Path) -> None:
    skin(tmp_path / "heart").unlink()
    assert "name: heart-own" in proposed(tmp_path / "heart")


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no table is in it; put a CSV or XLSX file with a row per"):
        proposed(tmp_path)
    (tmp_path / "t.csv").write_text("a,b\n1,1\n1,1\n")
    with pytest.raises(BadData, match="no column names each row once"):
        proposed(tmp_path)


CELLS = st.sampled_from(["", "a", "b", "1", "2.5", "x.png", "2020-01-01", "train", "test", "NA"])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    header=st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=5),
    rows=st.lists(st.lists(CELLS | st.text(max_size=9), min_size=5, max_size=5), max_size=8),
)
def test_any_table_is_proposed_or_refused(header: list[str], rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [",".join(["id", *header])]
        lines += [f"c{k},{','.join(row[: len(header)])}" for k, row in enumerate(rows)]
        (Path(folder) / "t.csv").write_bytes("\n".join(lines).encode(errors="replace"))
        try:
            path = new_dataset(Path(folder), None, [])
        except BenchError:
            return
        if "modalities:\n  #" not in path.read_text():  # there is an input
            read_manifest(path)
        with contextlib.suppress(BenchError):
            load(path)
