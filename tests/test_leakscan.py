"""The leak scan names what gives the label away, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.cli import main
from bench.data import Attribute, Dataset, Modality, PictureArray, Split
from bench.leakscan import Scan, scan

N_CASES = 80
LABEL = np.arange(N_CASES) % 2
SPLITS = [Split(np.arange(40), np.arange(40, 50), np.arange(50, 80))]


def make_dataset(**columns: object) -> Dataset:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"age": generator.normal(size=N_CASES), **columns})
    kinds = {name: "numeric" if frame[name].dtype == float else "categorical" for name in frame}
    attributes = tuple(Attribute(name, kinds[name], leak="told") for name in frame)  # type: ignore[arg-type]
    pixels = generator.integers(0, 256, (N_CASES, 20, 20, 1), dtype=np.uint8)
    return Dataset(
        name="toy",
        modalities=(Modality("table", "table", attributes), Modality("view", "image")),
        classes=("no", "yes"),
        cases=np.arange(N_CASES).astype(str),
        label=LABEL,
        group=np.arange(N_CASES).astype(str),
        content={"table": frame, "view": PictureArray(pixels)},
        available=np.ones((N_CASES, 2), bool),
        fingerprint="toy",
    )


def test_clean_data_gives_no_warning():
    found = scan(make_dataset(), SPLITS)
    assert found.warnings() == []
    assert found.modality_flags == found.attribute_flags == 0.5


def test_gaps_that_tell_the_label_are_named():
    gaps = np.where(LABEL == 1, np.nan, 1.0)
    gaps[:6] = 1.0
    found = scan(make_dataset(marker=gaps), SPLITS)
    assert found.attribute_flags > 0.9
    assert "the availability pattern alone reaches AUC" in found.warnings()[0]


def test_a_lone_attribute_that_tells_the_label_is_named_with_its_reason():
    found = scan(make_dataset(verdict=LABEL + 0.01 * np.arange(N_CASES)), SPLITS)
    assert found.attributes[0].name == "table.verdict"
    assert any("table.verdict alone" in each and "told" in each for each in found.warnings())


def test_a_value_that_all_cases_of_a_class_share_is_named():
    management = np.where(
        LABEL == 1, "excision", np.where(np.arange(N_CASES) % 4, "none", "excision")
    )
    found = scan(make_dataset(management=management.astype(object)), SPLITS)
    assert found.deciding == ("all 40 cases of class yes have table.management = excision",)


def test_groups_and_twin_pictures_on_both_sides_are_named():
    dataset = make_dataset()
    group = dataset.group.copy()
    group[60] = group[3]
    pixels = dataset.content["view"].pixels.copy()  # type: ignore[attr-defined]
    pixels[55] = pixels[7]
    content = {**dataset.content, "view": PictureArray(pixels)}
    found = scan(replace(dataset, group=group, content=content), SPLITS)
    assert found.split_faults == (
        "fold 0: 1 groups stand in training and test",
        "fold 0: in training and test alike: 1 picture of view",
    )


@dataclass(frozen=True)
class Slices:
    """Pictures of a plugin's own kind, read from files."""

    paths: tuple[Path | None, ...]

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 2, 2, 1), np.uint8)


def test_twins_are_found_in_files_of_any_plugin_but_not_among_those_of_one_part(tmp_path):
    paths = [tmp_path / f"{case}.png" for case in range(N_CASES)]
    for case, path in enumerate(paths):
        path.write_bytes(case.to_bytes(1, "big") * (7 if case % 2 else 9))  # sizes tell no twins
    paths[55].write_bytes(paths[7].read_bytes())
    paths[1] = paths[0]  # two cases in one file, both in training
    absent = (None if case == 60 else path for case, path in enumerate(paths))
    dataset = make_dataset()
    dataset = replace(dataset, content={**dataset.content, "view": Slices(tuple(absent))})
    faults = scan(dataset, SPLITS).split_faults
    assert faults == ("fold 0: in training and test alike: 1 picture of view",)


def test_a_scan_survives_plain_json():
    found = scan(make_dataset(), SPLITS)
    assert Scan.from_json(found.to_json()) == found


def test_prepare_prints_modalities_patterns_and_leaks(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["prepare", "wdbc", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert (tmp_path / "prepared" / "wdbc-patterns.png").is_file()
    for text in ("569 cases", "benign 357, malignant 212", "mean+se+worst", "none found"):
        assert text in said


def test_gaps_of_real_data_score_as_published(shared, capsys, tmp_path):
    root = str(shared / "data" / "heart_uci")
    with pytest.raises(SystemExit):
        main(["prepare", "heart", "--data-root", root, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    scores = {
        line.split("  ")[1].strip(): float(line.split()[-1])
        for line in said.splitlines()
        if "flags" in line
    }
    assert scores["modality flags"] == pytest.approx(53.0, abs=3)
    assert scores["attribute flags"] == pytest.approx(75.7, abs=3)
