"""`bench prepare`: what a dataset holds, what is odd in it, and the figure of its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from bench.data import Attribute, Dataset, Modality
from bench.preparation.oddities import oddities
from bench.preparation.pattern_figure import pattern_drawing, pattern_frame
from tests.command_line import call
from tests.own_data import kidney, skin, volumes
from tests.toy_cases import dataset, everything


def table(**columns: Sequence[object]) -> Dataset:
    """Return a dataset of one table; a column of words is a category."""
    frame = pd.DataFrame(columns)
    attributes = tuple(
        Attribute(name, "numeric" if frame[name].dtype.kind in "if" else "categorical")
        for name in columns
    )
    made = dataset((Modality("t", "table", attributes),), {"t": frame}, n=len(frame))
    return replace(made, label=np.arange(len(frame)) % 2)


def test_the_figure_counts_cases_by_pattern_and_class() -> None:
    available = np.array([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], bool)
    label = np.array([0, 1, 1, 0, 1, 1])
    data = replace(everything(), available=available, label=label)
    frame = pattern_frame(data)
    assert frame["pattern"].tolist() == ["012", "012", "12", "12", "02", "02"]
    assert frame["cases"].tolist() == [1, 2, 0, 2, 1, 0]
    assert frame["share"].tolist() == [0.3333, 0.6667, 0, 1, 1, 0]
    assert frame["modalities"].tolist()[2] == "genes+view"
    drawing = pattern_drawing(data)
    dots, bars = drawing.figure.axes
    assert [tick.get_text() for tick in dots.get_yticklabels()] == ["012", "12", "02"]
    assert {"3 (50 %): 33/67 %", "2 (33 %): 0/100 %"} <= {text.get_text() for text in bars.texts}


def test_odd_columns_and_classes_are_named() -> None:
    n = 40
    data = table(
        age=[50 + k % 9 for k in range(n - 1)] + [999],
        site=["arm", "Arm", "leg", "leg"] * 10,
        name=[f"patient {k}" for k in range(n)],
        scanner=["A"] * n,
        rare=[1.0] + [np.nan] * (n - 1),
        size=list(range(n)),
    )
    data = replace(data, label=np.array([1] * 3 + [0] * (n - 3)))
    assert list(oddities(data)) == [
        "class 'malignant' has 3 cases",
        "t.age: 999 is far from the others (half of them lie in 51.75 to 56); does it mean absent?",
        "t.site: 'Arm' and 'arm' differ in capitals, blanks or signs only",
        "t.name: 40 different words in 40 cells; a free text or a name?",
        "t.scanner: always 'A' where it is there",
        "t.rare: absent in 98 % of the cases",
        "t.rare: always '1.0' where it is there",
    ]


def test_a_manifest_is_prepared_in_one_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    assert call("prepare", str(path), "--out", str(tmp_path / "results")) == 0
    said = capsys.readouterr().out
    for text in (
        "kidney: 24 cases, 24 groups; no split of its own",
        "classes: carcinoma 12, oncocytoma 12",
        "laboratory  vector  33.3 %",
        "ct+report",
        "oddities:",
        "prepared/kidney-patterns.png",
    ):
        assert text in said
    assert max(map(len, said.splitlines())) < 130
    files = sorted(each.name for each in (tmp_path / "results" / "prepared").iterdir())
    assert files == [f"kidney-patterns.{ending}" for ending in ("csv", "pdf", "png")]


def test_files_that_cannot_be_used_are_named_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = skin(tmp_path)
    Image.new("RGBA", (8, 8), (1, 2, 3, 99)).save(tmp_path / "pictures" / "lesion3.png")
    (tmp_path / "pictures" / "lesion9.png").write_bytes(b"no picture")
    assert call("prepare", str(path), "--out", str(tmp_path)) == 2
    said = capsys.readouterr()
    assert "lesions.csv, line 11: picture: " in said.out
    assert "lesions.csv, line 5: picture: " in said.err
    assert "has transparency" in said.err
    assert "1 more files cannot be used" in said.err


def test_volumes_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = volumes(tmp_path, 6)
    np.save(tmp_path / "MEN-004" / "MEN-004_adc.npy", np.zeros((3, 3, 3)))
    assert call("prepare", str(path), "--out", str(tmp_path)) == 2
    assert "the volume is 3 x 3 x 3, the dataset promises 4 x 8 x 8" in capsys.readouterr().err


def test_a_column_without_a_single_cell_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        for row in rows:
            row.update(age=None, site=None)

    path = skin(tmp_path, change)
    assert call("prepare", str(path), "--out", str(tmp_path / "results")) == 0
    out = capsys.readouterr().out
    assert "clinical.age: absent in 100 % of the cases" in out
    assert "clinical.site: absent in 100 % of the cases" in out


def test_a_word_among_numbers_is_told() -> None:
    words = table(age=[*map(str, range(19)), "NA"], stage=["1", "2", "x", "y"] * 5)
    assert "t.age: 19 of 20 cells are numbers, 'NA' is none; does it mean absent?" in oddities(
        words
    )
    assert not any("stage" in said for said in oddities(words))


def test_an_orientation_tag_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = skin(tmp_path)
    for k, orientation in enumerate((6, 1)):
        image = Image.new("RGB", (9, 8))
        image.getexif()[ExifTags.Base.Orientation] = orientation
        image.save(tmp_path / f"pictures/lesion{k}.png", "JPEG", exif=image.getexif())
    assert call("prepare", str(path), "--out", str(tmp_path / "results")) == 0
    said = "photo: 1 picture with an orientation tag, which is not obeyed, the first is lesion0.png"
    assert said in capsys.readouterr().out
