from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from bench.data import Dataset
from bench.dataset import (
    DatasetPlugin,
    files_there,
    filled,
    find_layout,
    find_root,
    fingerprint_arrays,
    fingerprint_files,
    label_codes,
    numbers,
    read_arrays,
    read_matrix,
    read_table,
    unique_names,
    words_of,
)
from bench.dataset.workbooks import read_sheet
from bench.datasets.busbra import ATTRIBUTES, Busbra, BusbraConfig
from bench.datasets.digits import Digits
from bench.datasets.wdbc import Wdbc
from bench.errors import BadData, BadRequest
from bench.spec import EncoderConfig, Recipe
from bench.splits import make_split

HEADER = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
N_CASES = 20


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def case_lines(case: int) -> list[str]:
    """Return the lines of a case: every fourth has one view; odd cases are malignant."""
    sides = ["single"] if case % 4 == 0 else ["left", "right"]
    pathology = "malignant" if case % 2 else "benign"
    return [
        f"bus_{case:04d}-{side[0]},{case},fibroadenoma,{pathology},{2 + case % 4},"
        f'"Scanner, {case % 3}",{100 + case},90,{side},"[{case},2,30,40]"'
        for side in sides
    ]


def write_folds(root: Path, n_folds: int, ids: list[str]) -> None:
    """Write the release's fold file; its validation columns are by picture."""
    columns = ",".join(f"valid_{k + 1}" for k in range(n_folds))
    lines = [f"ID,Pathology,kFold,{columns}"]
    for row, name in enumerate(ids):
        fold = int(name[4:8]) % n_folds
        valid = ",".join("NaN" if k == fold else str((row + k) % 2) for k in range(n_folds))
        lines.append(f"{name},benign,{fold + 1},{valid}")
    written(root / f"{n_folds}-fold-cv.csv", "\n".join(lines) + "\n")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write a small BUS-BRA in the release's layout, in pictures of different sizes."""
    root = tmp_path / "busbra"
    for folder in ("Images", "Masks"):
        (root / folder).mkdir(parents=True)
    lines = [line for case in range(1, N_CASES + 1) for line in case_lines(case)]
    written(root / "bus_data.csv", "\n".join([HEADER, *lines]) + "\n")
    ids = [line.split(",")[0] for line in lines]
    for name in ids:
        case = int(name[4:8])
        Image.new("L", (20 + case, 30), 10 * case).save(root / "Images" / f"{name}.png")
        mask = Image.new("1", (20 + case, 30), 1)
        mask.save(root / "Masks" / f"{name.replace('bus', 'mask')}.png")
    for n_folds in (5, 10):
        write_folds(root, n_folds, ids)
    return root


def busbra(root: Path, **config: object) -> Dataset:
    return Busbra().load(BusbraConfig.model_validate({"size": 8, **config}), root)


@pytest.mark.parametrize("plugin", [Wdbc, Digits, Busbra])
def test_what_a_plugin_declares_is_complete_and_fits_the_recipe(
    plugin: type[DatasetPlugin],
) -> None:
    assert plugin.name == plugin.__module__.rsplit(".")[-1]
    for text in (plugin.display_name, plugin.description, plugin.citation, plugin.licence):
        assert text
        assert "\n" not in text
    assert Recipe(**plugin.recipe_defaults)
    assert EncoderConfig(**plugin.encoder_defaults)
    assert plugin.config_class()


@pytest.mark.parametrize("plugin", [Wdbc, Digits])
def test_sets_of_scikit_learn_are_complete_and_load_alike_twice(
    plugin: type[DatasetPlugin],
) -> None:
    one, other = (plugin().load(plugin.config_class(), None) for _ in range(2))
    assert one.available.all()
    assert one.fingerprint == other.fingerprint
    assert len(np.unique(one.cases)) == one.n_cases
    assert len(make_split(one, 0, plugin.default_folds, 0, 0.2).test) > 0


def test_wdbc_has_three_tables_and_malignant_as_class_one() -> None:
    data = Wdbc().load(Wdbc.config_class(), None)
    assert data.modality_names == ("mean", "se", "worst")
    assert np.bincount(data.label).tolist() == [357, 212]
    radius = data.table("worst")["radius"].to_numpy()
    assert radius[data.label == 1].mean() > radius[data.label == 0].mean()
    assert radius[0] == 25.38
    assert data.table("se")["radius"].iloc[0] == 1.095


def test_digits_put_together_again_are_the_pictures() -> None:
    from sklearn.datasets import load_digits

    data = Digits().load(Digits.config_class(), None)
    quadrant = {
        name: data.content[name].read(np.arange(data.n_cases))[..., 0]  # type: ignore[attr-defined]
        for name in data.modality_names
    }
    top = np.concatenate([quadrant["top-left"], quadrant["top-right"]], axis=2)
    bottom = np.concatenate([quadrant["bottom-left"], quadrant["bottom-right"]], axis=2)
    whole = np.concatenate([top, bottom], axis=1)
    assert whole.dtype == np.uint8
    assert (np.rint(whole / 255 * 16) == load_digits().images).all()
    assert {modality.encoder_key for modality in data.modalities} == {"quadrant"}


def test_busbra_reads_views_masks_table_and_folds(release: Path) -> None:
    data = busbra(release)
    assert data.modality_names == ("view_a", "view_b", "mask", "table")
    assert data.cases.tolist() == [str(case) for case in range(1, N_CASES + 1)]
    assert data.label.tolist() == [case % 2 for case in range(1, N_CASES + 1)]
    assert data.table("table")["birads"].tolist()[:4] == ["3", "4", "5", "2"]
    assert data.columns["device"][0] == "Scanner, 1"
    for n_folds in (5, 10):
        assert data.folds[n_folds].tolist() == [c % n_folds for c in range(1, N_CASES + 1)]


def test_busbra_masks_become_the_shape_of_their_lesion(release: Path) -> None:
    drawn = np.zeros((30, 21), np.uint8)
    drawn[10:20, 3:6] = 255
    drawn[10:15, 5] = 0
    Image.fromarray(drawn).convert("1").save(release / "Masks" / "mask_0001-l.png")
    data = busbra(release)
    assert (data.modalities[2].kind, data.modalities[2].width) == ("vector", 5)
    shape = data.content["mask"]
    assert isinstance(shape, np.ndarray)
    assert shape.dtype == np.float32
    area, width, height, aspect, extent = shape[0].tolist()
    assert area == pytest.approx(25 / 630)
    assert (width, height) == pytest.approx((3 / 21, 10 / 30))
    assert aspect == pytest.approx(10 / 3)
    assert extent == pytest.approx(25 / 30)
    assert shape[1].tolist() == pytest.approx([1, 1, 1, 30 / 22, 1])  # the left view's mask


def test_busbra_masks_stay_pictures_when_asked(release: Path) -> None:
    data = busbra(release, mask="picture")
    assert data.modalities[2].kind == "image"
    assert data.content["mask"].read(np.array([0])).min() == 255  # type: ignore[attr-defined]


def test_busbra_empty_and_damaged_masks_are_named(release: Path) -> None:
    path = release / "Masks" / "mask_0001-l.png"
    Image.new("1", (9, 9)).save(path)
    with pytest.raises(BadData, match=r"mask_0001-l.png: no lesion"):
        busbra(release)
    path.write_bytes(b"no picture")
    with pytest.raises(BadData, match=r"mask_0001-l.png: not a readable picture"):
        busbra(release)


def test_busbra_lists_all_its_files(release: Path) -> None:
    files = busbra(release).files
    assert {path.name for path in files if path.suffix == ".csv"} == {
        "bus_data.csv",
        "5-fold-cv.csv",
        "10-fold-cv.csv",
    }
    n_second = N_CASES - N_CASES // 4
    assert len(files) == 3 + 2 * N_CASES + n_second


def test_busbra_second_views_are_absent_and_not_black(release: Path) -> None:
    data = busbra(release)
    absent = [str(case) for case in range(4, N_CASES + 1, 4)]
    assert data.cases[~data.available[:, 1]].tolist() == absent
    assert data.available[:, [0, 2, 3]].all()
    rows = np.flatnonzero(data.available[:, 1])
    pictures = data.content["view_b"].read(rows)  # type: ignore[attr-defined]
    assert pictures[:, 0, 0, 0].tolist() == [10 * int(case) for case in data.cases[rows]]


def test_busbra_finding_in_finer_words_is_no_input(release: Path) -> None:
    data = busbra(release, attributes=list(ATTRIBUTES))
    names = {attribute.name for attribute in data.modalities[3].attributes}
    assert not names & {"histology", "pathology"}
    assert all(attribute.leak for attribute in data.modalities[3].attributes)


def test_busbra_reads_the_attributes_that_are_asked_for(release: Path) -> None:
    table = busbra(release, attributes=["bbox_x", "bbox_height", "width", "device"]).table("table")
    assert table.iloc[0].tolist() == [1, 40, 101, "Scanner, 1"]
    assert busbra(release, attributes=[]).modality_names == ("view_a", "view_b", "mask")


def test_busbra_takes_the_attributes_of_the_first_view(release: Path) -> None:
    replaced(release / "bus_data.csv", 'benign,4,"Scanner, 2",102,90,right', "benign,5,X,9,9,right")
    assert busbra(release).table("table")["birads"].iloc[1] == "4"


def test_busbra_blank_reading_makes_the_table_absent(release: Path) -> None:
    replaced(release / "bus_data.csv", "malignant,3,", "malignant,,")
    data = busbra(release)
    assert not data.available[0, 3]
    assert not data.natural().modality[0, 3]


def test_busbra_order_of_pictures_in_the_files_does_not_matter(release: Path) -> None:
    before = busbra(release)
    for name in ("5-fold-cv.csv", "10-fold-cv.csv"):
        header, *lines = (release / name).read_text().splitlines()
        written(release / name, "\n".join([header, *reversed(lines)]))
    header, first, second, *lines = (release / "bus_data.csv").read_text().splitlines()
    written(release / "bus_data.csv", "\n".join([header, second, first, *lines]))
    after = busbra(release)
    assert after.folds[5].tolist() == before.folds[5].tolist()
    one, other = before.content["view_a"], after.content["view_a"]
    assert one.paths == other.paths  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("malignant", "unsure", r"line 2: Pathology is 'unsure'; it must be one of benign"),
        ("malignant", "", r"line 2: Pathology is blank"),
        ("bus_0002-r,2,fibroadenoma,benign", "bus_0002-r,2,f,malignant", "line 5: Pathology.*both"),
        ("malignant,3,", "malignant,6,", "line 2: BIRADS is '6'"),
        ("left", "top", "line 3: Side is 'right'; it must be so that case 1"),
        ("right", "left", "line 3: Side is 'left'; it must be another side"),
        ("bus_0001-l", "../0001-l", "line 2: ID is '../0001-l'"),
        ("bus_0001-r", "bus_0001-l", "line 3: ID is 'bus_0001-l'; it must be there once"),
        (",Side", ",Seite", "column Side is missing"),
    ],
)
def test_busbra_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "bus_data.csv", old, new)
    with pytest.raises(BadData, match=message):
        busbra(release)


@pytest.mark.parametrize("value", ["one", "[1,2,3]"])
def test_busbra_sizes_and_boxes_must_be_numbers(release: Path, value: str) -> None:
    old = '"[1,2,30,40]"' if value.startswith("[") else "101"
    replaced(release / "bus_data.csv", old, f'"{value}"')
    with pytest.raises(BadData, match=r"line 2: (BBOX|Width) is"):
        busbra(release)


def test_busbra_views_of_a_case_in_two_folds_are_refused(release: Path) -> None:
    replaced(release / "5-fold-cv.csv", "bus_0001-r,benign,2", "bus_0001-r,benign,3")
    with pytest.raises(BadData, match=r"5-fold-cv.csv, line 3: kFold is '3'.*both views"):
        busbra(release)


def test_busbra_pictures_without_a_fold_are_named(release: Path) -> None:
    replaced(release / "10-fold-cv.csv", "bus_0003-l", "bus_9999-l")
    with pytest.raises(BadData, match=r"10-fold-cv.csv: 1 pictures have no fold: bus_0003-l"):
        busbra(release)


def test_busbra_missing_pictures_are_counted_and_named(release: Path) -> None:
    (release / "Images" / "bus_0002-r.png").unlink()
    (release / "Masks" / "mask_0004-s.png").unlink()
    message = r"2 of 55 pictures .*Images/bus_0002-r.png, Masks/mask_0004-s.png"
    with pytest.raises(BadData, match=message):
        busbra(release)


def test_busbra_missing_tables_are_listed(release: Path) -> None:
    (release / "5-fold-cv.csv").unlink()
    (release / "bus_data.csv").unlink()
    with pytest.raises(BadData, match=r"2 of 5 needed files .*bus_data.csv, 5-fold-cv.csv"):
        busbra(release)


@pytest.mark.parametrize("attributes", [["histology"], ["birads", "birads"]])
def test_busbra_config_refuses_other_attributes_and_repeats(attributes: tuple) -> None:
    with pytest.raises(ValidationError):
        BusbraConfig.model_validate({"attributes": attributes})


def test_busbra_release_has_the_counts_of_its_paper(shared: Path) -> None:
    if not (shared / "data" / "busbra").is_dir():
        pytest.skip("the release of BUS-BRA is not in the reference data")
    data = busbra(shared / "data")
    assert data.n_cases == 1064
    assert np.bincount(data.label).tolist() == [722, 342]
    assert (~data.available).sum(0).tolist() == [0, 253, 0, 0]
    assert [len(np.unique(data.folds[n])) for n in (5, 10)] == [5, 10]
    assert data.table("table")["birads"].iloc[855] == "4"  # the other view of case 856 says 5
    for fold in range(5):
        split = make_split(data, fold, 5, 0, 0.2)
        assert split.test.tolist() == np.flatnonzero(data.folds[5] == fold).tolist()


def test_busbra_masks_of_the_release_lie_in_their_boxes(shared: Path) -> None:
    if not (shared / "data" / "busbra").is_dir():
        pytest.skip("the release of BUS-BRA is not in the reference data")
    boxes = ["width", "height", "bbox_x", "bbox_width", "bbox_y", "bbox_height"]
    data = busbra(shared / "data", size=200, mask="picture", attributes=boxes)
    cells = data.table("table").to_numpy()[:40].T
    width, height, x, box_width, y, box_height = cells
    mask = data.content["mask"].read(np.arange(40))[..., 0] > 127  # type: ignore[attr-defined]
    columns, rows = mask.any(1), mask.any(2)
    assert columns.argmax(1) / 200 == pytest.approx(x / width, abs=0.03)
    assert columns.sum(1) / 200 == pytest.approx(box_width / width, abs=0.03)
    assert rows.argmax(1) / 200 == pytest.approx(y / height, abs=0.03)
    assert rows.sum(1) / 200 == pytest.approx(box_height / height, abs=0.03)


def test_root_is_the_folder_or_its_sub_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy").mkdir()
    written(tmp_path / "toy" / "a.csv", "x")
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    assert find_root("toy", tmp_path, ["a.csv"]) == tmp_path / "toy"
    assert find_root("toy", tmp_path / "toy", ["a.csv"]) == tmp_path / "toy"
    assert find_root("other", tmp_path / "toy", ["a.csv"]) == tmp_path / "toy"
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    assert find_root("toy", None, ["a.csv"]) == tmp_path / "toy"


def test_root_that_was_given_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    written(tmp_path / "a.csv", "x")
    with pytest.raises(BadData, match=r"1 of 1 needed files are not in .*empty: a.csv"):
        find_root("toy", tmp_path / "empty", ["a.csv"])


def test_no_root_at_all_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    with pytest.raises(BadRequest, match=r"toy .*--data-root or BENCH_DATA_DIR .*a.csv"):
        find_root("toy", None, ["a.csv"])


def test_the_layout_that_fits_is_found_and_the_nearest_one_named(tmp_path: Path) -> None:
    layouts = {"parts": ["a.csv", "b.csv", "c.csv"], "whole": ["all.csv"]}
    with pytest.raises(BadData, match=r"3 of 3 needed files .*a.csv, b.csv, c.csv"):
        find_layout("toy", tmp_path, layouts)
    written(tmp_path / "a.csv", "x")
    with pytest.raises(BadData, match=r"2 of 3 needed files .*b.csv, c.csv"):
        find_layout("toy", tmp_path, layouts)
    written(tmp_path / "all.csv", "x")
    assert find_layout("toy", tmp_path, layouts) == (tmp_path, "whole")


def test_table_without_a_header_line_takes_the_given_one(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "1,2\n3,\n")
    table = read_table(path, ["b"], header=["a", "b"])
    assert table.index.tolist() == [1, 2]
    assert table["a"].tolist() == ["1", "3"]
    with pytest.raises(BadData, match="line 1: 2 cells under 3 columns"):
        read_table(path, ["b"], header=["a", "b", "c"])


def test_table_index_is_the_line_of_the_file_and_blanks_are_nan(tmp_path: Path) -> None:
    text = '\ufeffa, b\r\n1,\r\n\r\n"two\r\nlines", x \r\n'
    table = read_table(written(tmp_path / "t.csv", text), ["a", "b"])
    assert table.index.tolist() == [2, 4]
    assert table["b"].isna().tolist() == [True, False]
    assert table["b"].iloc[1] == "x"


def test_blank_rows_and_columns_that_a_spreadsheet_writes_are_skipped(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "t.csv", "a,b,,\n1,2,,\n,,,\n3,,,\n,,,\n"), ["a"])
    assert table.columns.tolist() == ["a", "b"]
    assert table.index.tolist() == [2, 4]


def test_words_that_other_readers_take_for_missing_stay_words(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "t.csv", "a\nNA\nNone\n"), ["a"])
    assert table["a"].tolist() == ["NA", "None"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,c\n1,2\n", "column b is missing; the file has a, c"),
        ("a,b,a\n1,2,3\n", "column a stands there twice"),
        ("a,b\n", "no record follows the header"),
        ("", "the file is empty"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells under 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 cells under 2 columns"),
        ('a,b\n1,"2\n', "line 2: no CSV .a quote opens here and is not closed.; close it"),
        ('a,b\n1,x\n"2,y\n3,z\n', "line 3: no CSV .a quote opens here"),
        ('a,b\n"1\n1",x\n"2\n2","y\n3,z\n', "line 5: no CSV .a quote opens here"),
        ('a,b\n1,"x\n2,y\n3,"z"\n', "line 2: no CSV .a quote opens here"),
        ('a,b\n1,x\n2,"y"z\n', "line 3: no CSV .a quote closes within a cell.; write"),
        ('a,b\n1,"x\n2,"\n3\n', "line 4: 1 cells under 2 columns"),
        (f'a,b\n1,"x\n{"2,y" * 50_000}', "line 2: no CSV .a quote opens here"),
        ("a,b,,c,\n1,2,3,4,5\n", "columns 3, 5 of the header have no name; name them"),
        (b"a,b\n1,2\n\xe9,3\n", "line 3: not UTF-8"),
    ],
)
def test_tables_that_break_the_promise_are_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(BadData, match=message) as caught:
        read_table(written(tmp_path / "t.csv", content), ["a", "b"])
    assert "t.csv" in str(caught.value)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot be read"):
        read_table(tmp_path / "t.csv", ["a"])


def test_matrix_of_numbers_skips_empty_lines_and_keeps_their_count(tmp_path: Path) -> None:
    path = written(tmp_path / "m", " 1  2.5\n\n-3e2\t4\n")
    assert read_matrix(path, 2).tolist() == [[1, 2.5], [-300, 4]]
    assert read_matrix(written(tmp_path / "empty", "\n"), 2).shape == (0, 2)
    with pytest.raises(BadData, match="line 1: 2 numbers, not 3"):
        read_matrix(path, 3)
    with pytest.raises(BadData, match="line 3: 'inf' is no finite number"):
        read_matrix(written(path, "1 2\n\n1 inf\n"), 2)


def test_arrays_are_read_by_name_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones((2, 3)), words=np.array(["a"]))
    assert read_arrays(path, {"x": (-1, 3)})["x"].tolist() == [[1] * 3] * 2
    with pytest.raises(BadData, match=r"a.npz: x has shape \(2, 3\), not \(2,\)"):
        read_arrays(path, {"x": (2,)})
    with pytest.raises(BadData, match=r"a.npz: y is not a file"):
        read_arrays(path, {"y": (2,)})


def test_files_that_hold_no_plain_arrays_are_refused_and_nothing_is_unpickled(
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([None]))
    np.save(tmp_path / "single.npy", np.ones(1))
    np.savez(tmp_path / "whole.npz", x=np.ones(99))
    written(tmp_path / "cut.npz", (tmp_path / "whole.npz").read_bytes()[:400])
    written(tmp_path / "text.npz", "x")
    for name in ("objects.npz", "single.npy", "cut.npz", "text.npz", "gone.npz"):
        with pytest.raises(BadData, match=f"{name}: no readable .npz"):
            read_arrays(tmp_path / name, {"x": (-1,)})


def test_a_blank_where_none_may_be_is_named() -> None:
    column = pd.Series(["x", np.nan], index=[2, 3], name="a", dtype=object)
    with pytest.raises(BadData, match=r"t.csv, line 3: a is blank"):
        filled(column, source="t.csv")
    with pytest.raises(BadData, match=r"t.csv, line 3: a is blank"):
        label_codes(column, ["x"], source="t.csv")


def test_numbers_are_read_and_blanks_are_nan() -> None:
    column = pd.Series(["1.5", np.nan], index=[2, 3], name="a", dtype=object)
    assert numbers(column, source="t.csv")[0] == 1.5
    assert np.isnan(numbers(column, source="t.csv")[1])


@pytest.mark.parametrize("cell", ["x", "inf", "nan"])
def test_words_and_infinity_are_no_numbers(cell: str) -> None:
    column = pd.Series(["1", cell], index=[2, 3], name="a", dtype=object)
    with pytest.raises(BadData, match=f"t.csv, line 3: a is '{cell}'"):
        numbers(column, source="t.csv")


def test_fingerprint_follows_content_of_tables_and_size_of_pictures_but_not_the_place(
    tmp_path: Path,
) -> None:
    prints = []
    for place, table, picture in (
        ("one", "a\n1\n", "12"),
        ("moved", "a\n1\n", "34"),
        ("edited", "a\n2\n", "12"),
        ("grown", "a\n1\n", "123"),
    ):
        folder = tmp_path / place / "Images"
        folder.mkdir(parents=True)
        files = [written(tmp_path / place / "t.csv", table), written(folder / "p.png", picture)]
        prints.append(fingerprint_files(files))
        assert fingerprint_files(reversed(files)) == prints[-1]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_fingerprint_of_arrays_tells_shape_type_and_value() -> None:
    x = np.arange(4.0)
    same, other = fingerprint_arrays(x), fingerprint_arrays(x.copy())
    assert same == other
    different = [x.reshape(2, 2), x.astype(np.float32), x + 1]
    assert same not in {fingerprint_arrays(array) for array in different}


def sheet(path: Path, rows: list[list[object]]) -> Path:
    """Write an XLSX file with a second sheet that nobody asked for."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("other").append(["x"])
    book.save(path)
    book.close()
    return path


def test_a_sheet_is_read_as_the_same_text_as_its_csv(tmp_path: Path) -> None:
    day = datetime(2020, 1, 31)
    rows: list[list[object]] = [["ID", "age", "note"], [1, 69.0, " a, b "], [], [day, 1.5, None]]
    table = read_sheet(sheet(tmp_path / "a.xlsx", rows), ["ID", "age"])
    assert table.index.tolist() == [2, 4]
    assert table["ID"].tolist() == ["1", "2020-01-31"]
    assert table["age"].tolist() == ["69", "1.5"]
    assert table["note"].iloc[0] == "a, b"
    assert table["note"].isna().tolist() == [False, True]
    text = 'ID,age,note\n1,69," a, b "\n\n2020-01-31,1.5,\n'
    assert read_table(written(tmp_path / "a.csv", text), ["ID"]).equals(table)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["ID"], [1]], r"a.xlsx: column age is missing; the file has ID"),
        ([["age", "age"], [1, 2]], r"a.xlsx: column age stands there twice"),
        ([["age"], [1, 2]], r"a.xlsx, line 2: 2 cells under 1 columns"),
        ([["age"]], r"a.xlsx: no record follows the header"),
        ([[]], r"a.xlsx: the first sheet is empty"),
    ],
)
def test_faults_of_a_sheet_are_named(
    tmp_path: Path, rows: list[list[object]], message: str
) -> None:
    with pytest.raises(BadData, match=message):
        read_sheet(sheet(tmp_path / "a.xlsx", rows), ["age"])


def test_a_file_that_is_no_sheet_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    for content in ("text", b"PK\x03\x04 cut"):
        with pytest.raises(BadData, match=r"a.xlsx: no readable XLSX"):
            read_sheet(written(tmp_path / "a.xlsx", content), ["age"])
    with pytest.raises(BadData, match=r"b.xlsx: no readable XLSX \(No such file"):
        read_sheet(tmp_path / "b.xlsx", ["age"])


def test_names_that_are_blank_or_there_twice_are_refused() -> None:
    column = pd.Series(["x", "y"], index=[2, 3], name="id", dtype=object)
    assert unique_names(column, source="t.csv").tolist() == ["x", "y"]
    with pytest.raises(BadData, match=r"t.csv, line 3: id is 'x'; it must be there once only"):
        unique_names(column.replace("y", "x"), source="t.csv")
    with pytest.raises(BadData, match=r"t.csv, line 3: id is blank"):
        unique_names(column.where(column == "x"), source="t.csv")


def test_words_have_their_meaning_and_what_means_absent_is_nan() -> None:
    column = pd.Series(["M", "unknown", np.nan], index=[2, 3, 4], name="sex", dtype=object)
    read = words_of(column, {"M": "male"}, source="t.csv", absent=["unknown"])
    assert read[0] == "male"
    assert pd.isna(read[1:]).all()
    with pytest.raises(BadData, match=r"line 2: sex is 'M'; it must be one of F, unknown or blank"):
        words_of(column, {"F": "female"}, source="t.csv", absent=["unknown"])


def test_files_that_are_not_there_are_a_fault_or_absent(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.png", "x"), None, tmp_path / "b.png"]
    found = files_there(paths, "absent", folder=tmp_path, source="t.csv")
    assert found == (paths[0], None, None)
    with pytest.raises(BadData, match=r"t.csv: 1 of 2 files that it names .*: b.png; complete"):
        files_there(paths, "error", folder=tmp_path, source="t.csv")
    with pytest.raises(BadData, match=r"t.csv: 1 of 1 files"):
        files_there(paths[1:], "absent", folder=tmp_path, source="t.csv")
