from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.data import Dataset, Split
from bench.errors import BadData, BadRequest
from bench.splits import make_split


def dataset(
    label: Sequence[int] | np.ndarray,
    group: Sequence[object] | np.ndarray | None = None,
    *,
    folds: dict[int, np.ndarray] | None = None,
    parts: np.ndarray | None = None,
    name: str = "toy",
) -> Dataset:
    """Return a dataset without modalities: a split needs none."""
    label = np.asarray(label)
    n = len(label)
    group = np.arange(n) if group is None else np.asarray(group)
    return Dataset(
        name=name,
        modalities=(),
        classes=tuple(f"class {k}" for k in range(label.max() + 1)),
        cases=np.arange(n).astype(str),
        label=label,
        group=group.astype(str),
        content={},
        available=np.ones((n, 0), bool),
        fingerprint="",
        folds=folds or {},
        parts=parts,
    )


def grouped() -> Dataset:
    """Return 300 cases of 100 groups of 1 to 5 cases, three unequal classes."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(100), rng.permutation(np.repeat(np.arange(1, 6), 20)))
    label = rng.choice(3, len(group), p=[0.6, 0.3, 0.1])
    return dataset(label, group)


def rows_of(split: Split) -> np.ndarray:
    return np.concatenate([split.train, split.valid, split.test])


def same(one: Split, other: Split) -> bool:
    return all(
        np.array_equal(getattr(one, part), getattr(other, part))
        for part in ("train", "valid", "test")
    )


def test_each_case_is_in_one_part_and_tested_in_one_fold() -> None:
    data = grouped()
    splits = [make_split(data, fold, 5, 0, 0.2) for fold in range(5)]
    for split in splits:
        assert sorted(rows_of(split)) == list(range(data.n_cases))
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested) == list(range(data.n_cases))


def test_groups_never_part() -> None:
    data = grouped()
    for fold in range(5):
        split = make_split(data, fold, 5, 1, 0.3)
        groups = [set(data.group[rows]) for rows in (split.train, split.valid, split.test)]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_test_part_does_not_depend_on_the_seed_and_validation_does() -> None:
    data = grouped()
    one, other = make_split(data, 2, 5, 0, 0.2), make_split(data, 2, 5, 1, 0.2)
    assert np.array_equal(one.test, other.test)
    assert not np.array_equal(one.valid, other.valid)
    assert same(one, make_split(data, 2, 5, 0, 0.2))


def test_folds_depend_on_the_name_of_the_dataset() -> None:
    label = [0, 1] * 50
    one = make_split(dataset(label), 0, 5, 0, 0.2)
    other = make_split(dataset(label, name="another"), 0, 5, 0, 0.2)
    assert not np.array_equal(one.test, other.test)


def test_parts_keep_the_class_shares() -> None:
    label = np.repeat([0, 1], [400, 100])
    split = make_split(dataset(label), 0, 5, 0, 0.25)
    assert np.bincount(label[split.test]).tolist() == [80, 20]
    assert np.bincount(label[split.valid]).tolist() == [80, 20]
    assert np.bincount(label[split.train]).tolist() == [240, 60]


def test_validation_of_groups_comes_near_its_share_in_every_class() -> None:
    data = grouped()
    split = make_split(data, 0, 5, 0, 0.25)
    pool = np.concatenate([split.train, split.valid])
    share = np.bincount(data.label[split.valid]) / np.bincount(data.label[pool])
    assert np.abs(share - 0.25).max() < 0.08


def test_a_rare_class_gets_a_group_in_validation_and_keeps_one_in_training() -> None:
    label = np.repeat([0, 1], [96, 4])
    split = make_split(dataset(label), 0, 2, 0, 0.1)
    assert [(label[part] == 1).sum() for part in (split.train, split.valid, split.test)] == [
        1,
        1,
        2,
    ]


def test_official_folds_are_used_where_they_answer() -> None:
    fold_of = np.arange(40) // 10
    data = dataset([0, 1] * 20, folds={4: fold_of})
    split = make_split(data, 3, 4, 0, 0.2)
    assert split.test.tolist() == list(range(30, 40))
    assert len(make_split(data, 0, 5, 0, 0.2).test) == 8


def test_official_parts_are_used_as_they_are() -> None:
    parts = np.array(["train"] * 6 + ["valid"] * 2 + ["test"] * 2)
    split = make_split(dataset([0, 1] * 5, parts=parts), 0, 1, 0, 0.2)
    assert split.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert split.valid.tolist() == [6, 7]
    assert split.test.tolist() == [8, 9]


def test_validation_is_carved_where_the_official_parts_have_none() -> None:
    parts = np.array(["train"] * 20 + ["test"] * 10)
    data = dataset([0, 1] * 15, parts=parts)
    split = make_split(data, 0, 1, 0, 0.2)
    assert split.test.tolist() == list(range(20, 30))
    assert np.bincount(data.label[split.valid]).tolist() == [2, 2]
    assert parts.tolist() == ["train"] * 20 + ["test"] * 10  # the carving works on a copy


@pytest.mark.parametrize(("fold", "n_folds"), [(5, 5), (-1, 5), (0, 0), (1, 1)])
def test_a_fold_that_does_not_exist_is_refused(fold: int, n_folds: int) -> None:
    with pytest.raises(BadRequest, match="does not exist"):
        make_split(dataset([0, 1] * 10), fold, n_folds, 0, 0.2)


def test_one_fold_needs_official_parts() -> None:
    data = dataset([0, 1] * 10, folds={5: np.arange(20) % 5, 10: np.arange(20) % 10})
    with pytest.raises(BadRequest, match=r"no official fixed split; ask for several folds \(5, 10"):
        make_split(data, 0, 1, 0, 0.2)


def test_a_class_with_fewer_groups_than_folds_is_named() -> None:
    label, group = [0] * 10 + [1] * 10, [*range(10), *([10] * 6), *([11] * 4)]
    with pytest.raises(BadRequest, match=r"class 'class 1' has 2 group.* too few for 3 folds"):
        make_split(dataset(label, group), 0, 3, 0, 0.2)


def test_a_class_with_one_group_left_for_training_is_named() -> None:
    label, group = [0] * 10 + [1] * 10, [*range(10), *([10] * 6), *([11] * 4)]
    with pytest.raises(BadRequest, match=r"has 1 group.* too few for training and validation"):
        make_split(dataset(label, group), 0, 2, 0, 0.2)


def test_official_folds_that_part_a_group_are_refused() -> None:
    fold_of = np.arange(20) % 5
    with pytest.raises(BadData, match="group '0' into different parts"):
        make_split(dataset([0, 1] * 10, np.arange(20) // 2, folds={5: fold_of}), 0, 5, 0, 0.2)


def test_official_parts_that_part_a_group_are_refused() -> None:
    parts = np.array(["train"] * 9 + ["valid"] * 2 + ["test"] * 9)
    with pytest.raises(BadData, match="group '4' into different parts"):
        make_split(dataset([0, 1] * 10, np.arange(20) // 2, parts=parts), 0, 1, 0, 0.2)


def test_official_folds_without_cases_are_refused() -> None:
    fold_of = np.repeat([0, 2], 10)
    with pytest.raises(BadData, match=r"folds are numbered \[0, 2\]"):
        make_split(dataset([0, 1] * 10, folds={3: fold_of}), 0, 3, 0, 0.2)


@pytest.mark.parametrize("wrong", ["validation", "train"])
def test_unknown_or_lacking_official_parts_are_refused(wrong: str) -> None:
    parts = np.array(["train"] * 10 + [wrong] * 10)
    with pytest.raises(BadData, match="they must be train and test"):
        make_split(dataset([0, 1] * 10, parts=parts), 0, 1, 0, 0.2)
