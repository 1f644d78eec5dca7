"""Split a dataset into training, validation and test rows; cases of one group never part.

The test part comes from the official fixed split (one fold) or the official folds where the dataset
has them for the number that is asked for. Any other number of folds is ours: stratified by class,
grouped, and drawn from the dataset's name and the number of folds alone, so that every method and
seed sees the same test parts. The validation part is the official one or is carved from training,
by group and stratified, from (dataset, fold, seed).
"""

# N cases

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.data import Dataset, Split
from bench.errors import BadData, BadRequest, unknown
from bench.seeds import seed_for
from bench.spec import RunSpec

PARTS = ("train", "valid", "test")


def make_split(dataset: Dataset, fold: int, n_folds: int, seed: int, valid_share: float) -> Split:
    """Return the rows of the three parts of one repeat, in ascending order.

    Args:
        dataset: its official folds or parts are used where they answer the request; `n_folds` = 1
            asks for the official parts.
        fold: from 0.
        n_folds: 1 or more.
        seed: decides which training cases validate; the test part does not depend on it.
        valid_share: of the training cases, (0, 1); ignored where an official part validates.

    Raises:
        BadRequest: no such fold, no official parts, or a class with too few groups.
        BadData: the official split names unknown parts, is empty somewhere, or parts a group.
    """
    if n_folds < 1 or not 0 <= fold < n_folds:
        raise BadRequest(
            f"fold {fold} of {n_folds} does not exist; folds are counted from 0 to n_folds - 1"
        )
    part = _official_parts(dataset) if n_folds == 1 else _fold_parts(dataset, fold, n_folds)
    if not (part == "valid").any():
        train = np.flatnonzero(part == "train")
        _check_groups_per_class(dataset, train, least=2, purpose="training and validation")
        draw = seed_for("valid", dataset.name, fold, seed)
        part[_carve(dataset, train, valid_share, draw)] = "valid"
    _check_groups_stay(dataset, part)
    return Split(*(np.flatnonzero(part == name) for name in PARTS))


def split_of(dataset: Dataset, spec: RunSpec) -> Split:
    """Return the split of a run."""
    dataset = regrouped(dataset, spec.split_by)
    return make_split(dataset, spec.fold, spec.n_folds, spec.seed, spec.recipe.valid_share)


def regrouped(dataset: Dataset, split_by: str) -> Dataset:
    """Make the values of a column the folds: fold k tests on the k-th value, in order.

    Args:
        dataset: the cases.
        split_by: a subgroup column (site, scanner), or empty for the dataset's own folds.

    Raises:
        UnknownName: the dataset has no such column.
        BadRequest: the column has a single value, or parts a group.
    """
    if not split_by:
        return dataset
    if split_by not in dataset.columns:
        raise unknown(f"column of {dataset.name} to split by", split_by, dataset.columns)
    values, fold_of = np.unique(dataset.columns[split_by].astype(str), return_inverse=True)
    if len(values) < 2:
        raise BadRequest(
            f"{dataset.name}: column {split_by} has one value, {values[0]!r}; leaving a group out "
            "needs two"
        )
    return replace(dataset, folds={len(values): fold_of})


def _official_parts(dataset: Dataset) -> np.ndarray:
    """Return the official part of each case: (N,) str."""
    if dataset.parts is None:
        counts = ", ".join(map(str, sorted(dataset.folds))) or "5"
        raise BadRequest(
            f"{dataset.name} has no official fixed split; ask for several folds ({counts})"
        )
    found = set(np.asarray(dataset.parts).tolist())
    if not {"train", "test"} <= found <= set(PARTS):
        raise BadData(
            f"{dataset.name}: the official parts are {', '.join(sorted(found))}; "
            "they must be train and test, and may be valid"
        )
    return np.asarray(dataset.parts).astype("<U5")


def _fold_parts(dataset: Dataset, fold: int, n_folds: int) -> np.ndarray:
    """Return `test` for the cases of a fold and `train` for the others: (N,) str."""
    official = dataset.folds.get(n_folds)
    fold_of = _own_folds(dataset, n_folds) if official is None else np.asarray(official)
    found = np.unique(fold_of).tolist()
    if found != list(range(n_folds)):
        raise BadData(
            f"{dataset.name}: the official {n_folds} folds are numbered {found}; "
            f"each of 0 to {n_folds - 1} needs a case"
        )
    return np.where(fold_of == fold, "test", "train").astype("<U5")


def _own_folds(dataset: Dataset, n_folds: int) -> np.ndarray:
    """Return a stratified, grouped k-fold partition of all cases: (N,) int."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check_groups_per_class(
        dataset, np.arange(dataset.n_cases), least=n_folds, purpose=f"{n_folds} folds"
    )
    alone = len(np.unique(dataset.group)) == dataset.n_cases
    kind, group = (StratifiedKFold, None) if alone else (StratifiedGroupKFold, dataset.group)
    random_state = seed_for("folds", dataset.name, n_folds) % 2**32
    folds = kind(n_folds, shuffle=True, random_state=random_state)
    fold_of = np.full(dataset.n_cases, -1)
    for fold, (_, test) in enumerate(folds.split(fold_of[:, None], dataset.label, group)):
        fold_of[test] = fold
    return fold_of


def _carve(dataset: Dataset, train: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw the training rows that validate.

    A group counts for its rarest class, so that the share holds for rare classes first. Of each
    class, whole groups in random order are taken until their cases are as near to the share as can
    be; at least one group is taken and one is left.

    Args:
        dataset: labels and groups.
        train: rows to draw from.
        share: of the cases of each class, (0, 1).
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    label = dataset.label[train]
    _, group = np.unique(dataset.group[train], return_inverse=True)
    n_cases_of = np.bincount(group)
    commonness = np.bincount(label, minlength=len(dataset.classes)).argsort(kind="stable").argsort()
    rank_of = np.full(len(n_cases_of), len(dataset.classes))
    np.minimum.at(rank_of, group, commonness[label])  # 0: the rarest class
    taken = np.zeros(len(n_cases_of), dtype=bool)
    for rank in range(len(dataset.classes)):
        order = generator.permutation(np.flatnonzero(rank_of == rank))
        if len(order) > 1:
            n_cases = n_cases_of[order].cumsum()
            nearest = int(np.abs(n_cases - share * n_cases[-1]).argmin()) + 1
            taken[order[: min(nearest, len(order) - 1)]] = True
    return train[taken[group]]


def _check_groups_per_class(
    dataset: Dataset, rows: np.ndarray, *, least: int, purpose: str
) -> None:
    for k, name in enumerate(dataset.classes):
        n_groups = len(np.unique(dataset.group[rows][dataset.label[rows] == k]))
        if n_groups < least:
            raise BadRequest(
                f"{dataset.name}: class {name!r} has {n_groups} group(s) of cases, too few for "
                f"{purpose}; ask for fewer folds or leave the class out"
            )


def _check_groups_stay(dataset: Dataset, part: np.ndarray) -> None:
    order = np.argsort(dataset.group, kind="stable")
    group, part = dataset.group[order], part[order]
    parted = (group[1:] == group[:-1]) & (part[1:] != part[:-1])
    if parted.any():
        name = group[1:][parted][0]
        raise BadData(
            f"{dataset.name}: the official split puts cases of group {str(name)!r} into different "
            "parts; a group must stay together"
        )
