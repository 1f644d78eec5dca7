"""`bench new dataset` of a folder per class: a table is made from names, or asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from bench.data import Dataset
from bench.errors import BadData
from bench.manifest import class_folders, proposal
from bench.manifest.proposal import new_dataset
from tests.command_line import call
from tests.own_data import load, picture

CLASSES = ("melanoma", "nevus")
PARTS = ("Train", "val", "test")
SEVERAL = [(k, kind) for k in range(4) for kind in ("clinic", "derm")[: 1 + (k > 0)]]


def fill(folder: Path, names: Sequence[str]) -> Path:
    for each in names:
        picture(folder / each, 90 if "melanoma" in each else 40)
    return folder


def proposed(folder: Path, out: Path | None = None) -> Dataset:
    return load(new_dataset(folder, out, []))


def refusal(folder: Path, names: Sequence[str]) -> str:
    """Return why no table is made, and check that none was."""
    with pytest.raises(BadData) as caught:
        new_dataset(fill(folder, names), None, [])
    assert not [*folder.glob("*.csv"), *folder.glob("*.yaml")]
    said = str(caught.value)
    end = "; put a CSV or XLSX file with a row per case: its name, its class and the paths of its "
    assert said.startswith(f"{folder}: no table is in it")
    assert end in said
    return said


def test_every_file_of_a_class_is_a_case(tmp_path: Path) -> None:
    data = proposed(fill(tmp_path, [f"{c}/{c}{k}.jpg" for c in CLASSES for k in range(3)]))
    assert data.classes == CLASSES
    assert data.modality_names == ("image",)
    assert data.cases.tolist() == [f"{c}{k}" for c in CLASSES for k in range(3)]
    assert data.label.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.content["image"].read(np.array([0])).mean() > 90  # type: ignore[attr-defined]
    (table,) = tmp_path.glob("*.csv")
    assert table.read_text().splitlines()[:2] == [
        "case,label,image",
        "melanoma0,melanoma,melanoma/melanoma0.jpg",
    ]


def test_volumes_are_cases_too(tmp_path: Path) -> None:
    for k in range(6):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[k % 2] / f"c{k}.npy", np.zeros((2, 8, 9), np.float32))
    data = proposed(tmp_path)
    assert data.modality_names == ("volume",)
    assert data.available.all()


@pytest.mark.parametrize(
    "layout",
    [
        "{c}/{c}{k}/{m}.jpg",
        "{c}/{c}-{k}/{c}-{k}_{m}.jpg",
        "{m}/{c}/{c}{k}.jpg",
        "{c}/{m}/{c}{k}.jpg",
    ],
)
@pytest.mark.parametrize("parted", [False, True])
def test_folders_of_cases_and_of_modalities_are_told_apart(
    tmp_path: Path, layout: str, parted: bool
) -> None:
    parts = PARTS if parted else ("",)
    names = [
        os.path.join(part, layout.format(c=f"{c}", k=f"{part}{k}", m=m))
        for part in parts
        for c in CLASSES
        for k, m in SEVERAL
    ]
    data = proposed(fill(tmp_path, names))
    assert data.modality_names == ("clinic", "derm")
    assert data.classes == CLASSES
    assert data.n_cases == 8 * len(parts)
    assert data.available.sum(axis=0).tolist() == [data.n_cases, data.n_cases * 3 // 4]
    if parted:
        assert data.parts is not None
        assert np.unique(data.parts, return_counts=True)[1].tolist() == [8, 8, 8]


def test_one_file_per_case_may_have_any_name(tmp_path: Path) -> None:
    names = [f"{c}/{c}{k}/IMG_{c}{7 * k}.jpg" for c in CLASSES for k in range(3)]
    data = proposed(fill(tmp_path, names))
    assert data.cases[2] == "melanoma2"
    assert data.modality_names == ("image",)


def test_numbers_that_begin_anew_in_each_part_are_named_with_their_folders(tmp_path: Path) -> None:
    names = [f"{p}/{c}/{c[0]}{k}.jpg" for p in PARTS for c in CLASSES for k in range(2)]
    data = proposed(fill(tmp_path, names))
    assert data.n_cases == 12
    assert "Train/melanoma/m0" in data.cases


def test_parts_without_a_test_part_are_told_and_left_out(tmp_path: Path) -> None:
    names = [f"{p}/{c}/{p}{c}{k}.jpg" for p in ("train", "val") for c in CLASSES for k in range(2)]
    path = new_dataset(fill(tmp_path, names), None, [])
    assert "#   split: train and valid only, so that folds are drawn" in path.read_text()
    assert load(path).parts is None


def test_a_class_with_one_case_is_left_out_with_its_reason(tmp_path: Path) -> None:
    names = [f"{c}/{c}{k}.jpg" for c in CLASSES for k in range(3)]
    path = new_dataset(fill(tmp_path, [*names, "naevus/x.jpg"]), None, [])
    assert "leave_out: [naevus]}  # of the folders: melanoma, naevus, nevus; " in path.read_text()
    assert load(path).classes == CLASSES


def test_names_that_columns_have_are_given_to_no_modality(tmp_path: Path) -> None:
    names = [f"{c}/{c}{k}/{m}.png" for c in CLASSES for k in range(2) for m in ("label", "{t1}")]
    assert proposed(fill(tmp_path, names)).available.all()
    (table,) = tmp_path.glob("*.csv")
    assert table.read_text().splitlines()[0] == "case,label,label file,(t1)"


def test_names_in_two_forms_of_unicode_are_one_case(tmp_path: Path) -> None:
    names = [
        normalize("NFC" if m == "clinic" else "NFD", f"{m}/{c}/é{c}{k}.png")
        for c in CLASSES
        for k in range(2)
        for m in ("clinic", "derm")
    ]
    data = proposed(fill(tmp_path, names))
    assert data.n_cases == 4
    assert data.available.all()


def test_a_manifest_elsewhere_has_its_table_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "skin", [f"{c}/{c}{k}.jpg" for c in CLASSES for k in range(3)])
    out = tmp_path / "out"
    assert call("new", "dataset", str(tmp_path / "skin"), "--folder", str(out)) == 0
    assert Path(capsys.readouterr().out.strip()) == out / "skin.yaml"
    assert sorted(path.name for path in (tmp_path / "skin").iterdir()) == [*CLASSES]
    assert load(out / "skin.yaml").available.all()
    assert load(out / "skin.yaml", tmp_path / "skin").available.all()
    (out / "skin.yaml").unlink()
    assert call("new", "dataset", str(tmp_path / "skin"), "--folder", str(out)) == 2
    assert "skin.csv' is already there; move it, or choose --folder" in capsys.readouterr().err
    assert not (out / "skin.yaml").exists()


def test_a_folder_of_classes_is_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{p}/{c}/{p}{c}{k}.jpg" for p in PARTS for c in CLASSES for k in range(5)]
    path = new_dataset(fill(tmp_path / "skin", names), None, [])
    path.write_text(path.read_text().replace("224", "16"))
    assert call("prepare", str(path), "--out", str(tmp_path / "results")) == 0
    assert "classes: melanoma 15, nevus 15" in capsys.readouterr().out


FLAT = [f"{c}/{c}{k}.jpg" for c in CLASSES for k in range(3)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            [f"{c}/{k}.jpg" for c in CLASSES for k in range(3)],
            "as 'melanoma/0.jpg' and 'nevus/0.jpg' may be two cases, or two pictures of one;",
        ),
        (
            [f"{m}/{c}/{k}.jpg" for m in ("clinic", "derm") for c in CLASSES for k in range(3)],
            "as the classes may be the upper folders (clinic, derm) or the lower (melanoma, nevus)",
        ),
        (
            [f"{c}/x{k}/{m}.jpg" for c in CLASSES for k in range(3) for m in "ab"],
            "as the classes may be the upper folders (melanoma, nevus) or the lower (x0, x1, x2)",
        ),
        (
            [f"{c}/{c} ({k}){m}.png" for c in CLASSES for k in range(3) for m in ("", "_mask")],
            "'melanoma/melanoma (1).png' and 'melanoma/melanoma (1)_mask.png' look like two files",
        ),
        (
            [f"{c}/{c}{k}/{c}{k}{m}.png" for c in CLASSES for k in range(3) for m in "ab"],
            "as 'melanoma/melanoma0/melanoma0a.png' has no counterpart in the folder of another",
        ),
        (
            [f"{c}/{c}{k}/{m}.png" for c in CLASSES for k in range(2) for m in range(9)],
            "as cases have files of 9 kinds, more than 8;",
        ),
        ([f"images/{each}" for each in FLAT], "as all lie in 'images': name that folder if the"),
        ([*FLAT, "a.png"], "as 'a.png' lies in no class's folder (take it out if it is no case);"),
        ([*FLAT, "nevus/x/a.png"], "as 'nevus/nevus2.jpg' and 'nevus/x/a.png' do not lie equally"),
        ([*FLAT, "nevus/nevus1.png"], "as 'nevus1.jpg' and 'nevus1.png' are two files of one name"),
        ([f"train/{each}" for each in FLAT] + FLAT, "as train name parts of a split and 'melanoma"),
        ([f"train/{each}" for each in FLAT] + ["test/a.png"], "as 'test/a.png' lies in no class's"),
        ([f"{each}/x/y/z.png" for each in "ab"], "as 'b/x/y/z.png' lies too deep;"),
        (
            [f"c{k // 2}/x{k}.png" for k in range(42)],
            "as 'c0' and 20 others are too many to be classes",
        ),
        (["a/x.png", "b/y.png", "b/z.png"], "as fewer than two classes of a, b have two cases;"),
        (["a.png", "b.png"], "no table is in it; put a CSV"),
        ([], "no table is in it; put a CSV"),
        ([*FLAT[:-1], "nevus/x .d/y.png", "nevus/z .png"], "do not lie equally deep"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, names: list[str], said: str
) -> None:
    assert said in refusal(tmp_path, names)


def test_a_picture_and_a_volume_are_no_modality(tmp_path: Path) -> None:
    (tmp_path / "nevus" / "n0").mkdir(parents=True)
    np.save(tmp_path / "nevus" / "n0" / "scan.npy", np.zeros((2, 8, 9)))
    said = refusal(
        tmp_path, [f"melanoma/m{k}/{name}.png" for k in (0, 1) for name in ("scan", "x")]
    )
    assert "as 'scan.png' and 'scan.npy' are a picture and a volume of one kind;" in said


def test_a_picture_and_a_volume_of_one_name_are_two_modalities(tmp_path: Path) -> None:
    fill(tmp_path, FLAT)
    np.save(tmp_path / "nevus" / "nevus1.npy", np.zeros((2, 8, 9), np.float32))
    assert proposed(tmp_path).available.sum(axis=0).tolist() == [6, 1]


@pytest.mark.parametrize("name", [" melanoma", "mel\udcff"])
def test_names_that_a_table_does_not_hold_are_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path, FLAT)
    try:
        (tmp_path / "melanoma").rename(tmp_path / name)
    except OSError:
        pytest.skip("this disk takes UTF-8 only")
    with pytest.raises(BadData, match="begins or ends with a blank, or is not UTF-8; rename it"):
        new_dataset(tmp_path, None, [])


def test_more_files_than_are_looked_at_make_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposal, "MAX_FILES", 6)
    assert "more than 5 files, too many to make" in refusal(tmp_path, FLAT)
    assert class_folders.cases_of(tmp_path, sorted(tmp_path.rglob("*.jpg")))
